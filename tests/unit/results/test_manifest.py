import json

import pytest

from payerseg.errors import ArtifactError
from payerseg.results.manifest import StageManifest


def test_a_manifest_comes_back(tmp_path):
    manifest = StageManifest("s", 1, "k", inputs={"a": "h"}, pruned=("b",), notes={"n": [1, None]})
    manifest.write(tmp_path / "deep" / "manifest.json")
    assert StageManifest.read(tmp_path / "deep" / "manifest.json") == manifest
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["manifest.json"]


def test_none_where_there_is_none(tmp_path):
    assert StageManifest.read(tmp_path / "manifest.json") is None


WHOLE = {"format": 1, "stage": "s", "stage_version": 1, "key": "k"}


@pytest.mark.parametrize(
    ("damage", "place"),
    [
        ({"format": 2}, "format 2"),
        ({"unknown": 0}, "`$.unknown`"),
        ({"outputs": []}, "`$.outputs`"),
        ({"outputs": {"a": 5}}, "`$.outputs[...]`"),
        ({"inputs": 5}, "`$.inputs`"),
        ({"config": []}, "`$.config`"),
        ({"notes": []}, "`$.notes`"),
        ({"notes": {"needs_review": []}}, "`$.notes.needs_review`"),
        ({"notes": {"needs_review": 1}}, "`$.notes.needs_review`"),
        ({"notes": {"review_reasons": 5}}, "`$.notes.review_reasons`"),
        ({"pruned": 7}, "`$.pruned`"),
        ({"message": None}, "`$.message`"),
        ({"seconds": "x"}, "`$.seconds`"),
        ({"weights": 5}, "`$.weights`"),
        ({"status": "perhaps"}, "`$.status`"),
        ({"seed": None}, "`$.seed`"),
    ],
)
def test_a_wrong_type_is_told_with_its_place(tmp_path, damage, place):
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(WHOLE | damage))
    with pytest.raises(ArtifactError) as caught:
        StageManifest.read(path)
    assert place in str(caught.value)
    assert str(path) in str(caught.value)
    assert "must run again" in str(caught.value)


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{", b"5", b"null", b"\xff\xfe{}", b"[" * 100_000, b'{"a":' * 100_000]
)
def test_what_is_no_manifest_is_told(tmp_path, text):
    (tmp_path / "manifest.json").write_bytes(text)
    with pytest.raises(ArtifactError, match="must run again"):
        StageManifest.read(tmp_path / "manifest.json")


def test_a_manifest_of_the_first_release_is_read(tmp_path):
    (tmp_path / "manifest.json").write_text(json.dumps(WHOLE))
    assert StageManifest.read(tmp_path / "manifest.json") == StageManifest("s", 1, "k")


def test_a_folder_in_its_place_is_told(tmp_path):
    (tmp_path / "manifest.json").mkdir()
    with pytest.raises(ArtifactError, match="Is a directory"):
        StageManifest.read(tmp_path / "manifest.json")


def test_pruned_names_add_up():
    manifest = StageManifest("s", 1, "k", pruned=("b",))
    assert manifest.with_pruned(("a", "b")).pruned == ("a", "b")


def test_a_manifest_outlives_a_power_cut(tmp_path, monkeypatch):
    waits = []
    for name in ("sync_file", "sync_folder"):
        monkeypatch.setattr(f"payerseg.atomic.{name}", lambda path: waits.append(path.is_dir()))
    StageManifest("s", 1, "k").write(tmp_path / "manifest.json")
    assert waits == [False, True]
