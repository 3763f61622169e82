import json

import pytest

from payerseg.errors import ArtifactError
from payerseg.results.manifest import StageManifest, write_json


def test_a_manifest_comes_back(tmp_path):
    manifest = StageManifest("s", 1, "k", inputs={"a": "h"}, pruned=("b",), notes={"n": [1, None]})
    manifest.write(tmp_path / "deep" / "manifest.json")
    assert StageManifest.read(tmp_path / "deep" / "manifest.json") == manifest
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["manifest.json"]


def test_none_where_there_is_none(tmp_path):
    assert StageManifest.read(tmp_path / "manifest.json") is None


@pytest.mark.parametrize(
    "text", ["", "[]", '{"format": 2}', '{"format": 1}', '{"format": 1, "unknown": 0}']
)
def test_damage_is_told(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ArtifactError, match="must run again"):
        StageManifest.read(tmp_path / "manifest.json")


def test_json_is_stable_finite_and_whole_or_absent(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"b": 1, "a": "ü"})
    assert path.read_text(encoding="utf-8") == '{\n "a": "ü",\n "b": 1\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, float("nan"))
    assert json.loads(path.read_text(encoding="utf-8")) == {"b": 1, "a": "ü"}


def test_pruned_names_add_up():
    manifest = StageManifest("s", 1, "k", pruned=("b",))
    assert manifest.with_pruned(("a", "b")).pruned == ("a", "b")
