import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from payerseg import records
from payerseg.atomic import replacing, write_text
from payerseg.errors import UsageError


@dataclass(frozen=True)
class Part:
    number: int
    place: Path | None = None


@dataclass(frozen=True)
class Whole:
    parts: tuple[Part, ...] = ()
    facts: dict[str, Part] = field(default_factory=dict)
    free: Any = None


def test_what_is_written_is_read(tmp_path):
    whole = Whole((Part(1, Path("/a/b\udce9.nii")),), {"x": Part(2)}, {"any": [1.5, None, "ü"]})
    write_text(tmp_path / "deep" / "w.json", records.to_json(whole))
    assert records.read(Whole, tmp_path / "deep" / "w.json", "do") == whole
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["w.json"]


def test_none_where_there_is_none(tmp_path):
    assert records.read(Whole, tmp_path / "w.json", "do") is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"parts": [{"number": "x"}]}', "Expected `int`, got `str` - at `$.parts[0].number`"),
        ('{"parts": [{}]}', "required field `number` - at `$.parts[0]`"),
        ('{"parts": [{"number": 1, "nmber": 1}]}', "unknown field `$.parts[0].nmber`"),
        ('{"facts": {"a": {"number": 1, "b": 2}}}', "unknown field `$.facts.a.b`"),
        ('{"parts": [{"number": 1, "place": 5}]}', "`$.parts[0].place`"),
        ('{"free": NaN}', "NaN is no number"),
        ('{"free": ' + "[" * 100_000, "nested too deep"),
        ('{"free": ' + "9" * 5_000 + "}", "not JSON"),
    ],
)
def test_damage_is_told_with_its_place(tmp_path, text, said):
    path = tmp_path / "w.json"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        records.read(Whole, path, "write it again", UsageError)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert str(caught.value).endswith("write it again")


def test_a_name_that_no_system_takes_is_told(tmp_path):
    for name in ("n" * 300, "nul\0"):
        with pytest.raises(UsageError, match="do"):
            records.read(Whole, tmp_path / name, "do", UsageError)


def test_a_file_that_may_not_be_read_is_told(tmp_path, monkeypatch):
    def closed(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", closed)
    with pytest.raises(UsageError, match=r"Permission denied.*ask its owner"):
        records.read(Whole, tmp_path / "w.json", "ask its owner", UsageError)


def test_json_is_stable_and_finite():
    assert records.to_json({"b": 1, "a": "ü"}) == '{\n "a": "ü",\n "b": 1\n}\n'
    assert records.to_json({"a": np.float64(0.1)}) == '{\n "a": 0.1\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        records.to_json({"a": float("nan")})


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail():
        with replacing(path) as temporary:
            temporary.write_text("new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_who_reads_the_old_file_keeps_it_whole(tmp_path):
    path, open_elsewhere = tmp_path / "a.json", tmp_path / "old"
    path.write_text("old")
    open_elsewhere.hardlink_to(path)
    write_text(path, "new")
    assert (path.read_text(), open_elsewhere.read_text()) == ("new", "old")


def test_a_name_of_full_length_can_be_written_and_keeps_its_ending(tmp_path):
    path = tmp_path / f"{'n' * 248}.nii.gz"
    with replacing(path, durable=True) as temporary:
        assert temporary.name.endswith(".nii.gz")
        temporary.write_text("x")
    assert path.read_text() == "x"


def test_durable_waits_for_file_and_folder(tmp_path, monkeypatch):
    """The promise that a manifest outlives a power cut: without the waits this fails."""
    synced = []

    def note(descriptor):
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))

    monkeypatch.setattr(os, "fsync", note)
    write_text(tmp_path / "a.json", "{}", durable=True)
    assert len(synced) == 2
    assert synced[0].startswith(f"{tmp_path}/.")
    assert synced[1] == str(tmp_path)
    write_text(tmp_path / "b.json", "{}")
    assert len(synced) == 2
