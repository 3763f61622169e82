from payerseg.config import weights


def test_a_clone_keeps_weights_beside_the_library(repository):
    assert weights.programs_parent() == repository
    assert weights.default_bundle("x") == repository / "model_weights" / "x"


def test_a_further_family_has_a_folder_of_its_own(repository):
    expected = repository / "model_weights" / "verse_pytorch" / "x"
    assert weights.default_bundle("x", "verse_pytorch") == expected


def test_a_wheel_keeps_weights_inside_the_library(tmp_path, monkeypatch):
    (tmp_path / "payerseg" / "model_weights").mkdir(parents=True)
    monkeypatch.setattr(weights, "package_folder", lambda: tmp_path / "payerseg")
    assert weights.default_bundle("x") == tmp_path / "payerseg" / "model_weights" / "x"
