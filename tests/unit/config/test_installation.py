from payerseg.config import installation


def test_a_clone_keeps_weights_beside_the_library(repository):
    assert installation.programs_parent() == repository
    assert installation.default_bundle("x") == repository / "model_weights" / "x"


def test_a_further_family_has_a_folder_of_its_own(repository):
    expected = repository / "model_weights" / "verse_pytorch" / "x"
    assert installation.default_bundle("x", "verse_pytorch") == expected


def test_a_wheel_keeps_weights_inside_the_library(tmp_path, monkeypatch):
    (tmp_path / "payerseg" / "model_weights").mkdir(parents=True)
    monkeypatch.setattr(installation, "package_folder", lambda: tmp_path / "payerseg")
    assert installation.default_bundle("x") == tmp_path / "payerseg" / "model_weights" / "x"
