import json
import os
import shutil
import time

import pytest

from payerseg.errors import ArtifactError, BundleError
from payerseg.results import fingerprint
from payerseg.results.fingerprint import (
    ABSENT,
    HashMemo,
    KeyParts,
    canonical_json,
    digest_of,
    file_digest,
    scan_bytes,
    scan_digest,
    scan_exists,
    scan_files,
    text_digest,
    weights_digest,
)

OLD = (1_000_000_000, 1_000_000_000)


@pytest.fixture
def memo():
    return HashMemo()


def write(path, text, times=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    if times:
        os.utime(path, times)
    return path


def test_canonical_json_has_one_spelling():
    assert canonical_json({"b": (1, 2.5), "a": None}) == '{"a":null,"b":[1,2.5]}'
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(float("nan"))


def test_the_digest_is_the_content(tmp_path):
    a, b = write(tmp_path / "a", "same"), write(tmp_path / "b", "same")
    assert file_digest(a) == file_digest(b)
    assert file_digest(a) != file_digest(write(b, "other"))


def test_a_tree_is_its_names_and_contents(tmp_path, memo):
    one = tmp_path / "one"
    write(one / "x.txt", "1")
    write(one / "deep" / "y.txt", "2")
    before = memo.digest(one)
    shutil.copytree(one, tmp_path / "two")
    assert memo.digest(tmp_path / "two") == before
    (one / "x.txt").rename(one / "z.txt")
    assert memo.digest(one) != before


@pytest.fixture
def later(monkeypatch):
    """Let a minute pass, so that what was written before is old."""

    def pass_by():
        now_ns = time.time_ns() + 60 * 10**9
        monkeypatch.setattr(fingerprint.time, "time_ns", lambda: now_ns)

    return pass_by


def test_the_memo_saves_reading_of_old_files_only(tmp_path, later, monkeypatch):
    path = tmp_path / ".payerseg" / "hashes.json"
    old, young = write(tmp_path / "old", "1"), write(tmp_path / "young", "1")
    memo = HashMemo(path)
    memo.digest(young)
    later()
    memo.digest(old)
    memo.save()
    assert list(json.loads(path.read_text())) == ["old"]
    read = []
    monkeypatch.setattr(fingerprint, "file_digest", lambda file: read.append(file) or "new")
    again = HashMemo(path)
    assert again.digest(old) == text_digest("1")
    assert again.digest(young) == "new"
    assert read == [young]


@pytest.mark.parametrize("way", ["written over", "replaced"])
def test_equal_size_and_time_hide_no_other_content(tmp_path, later, way):
    path = tmp_path / ".payerseg" / "hashes.json"
    scan = write(tmp_path / "scan", "1", OLD)
    later()
    memo = HashMemo(path)
    memo.digest(scan)
    memo.save()
    if way == "replaced":
        write(tmp_path / "other", "2", OLD).replace(scan)
    else:
        write(scan, "2", OLD)
    assert (scan.stat().st_size, scan.stat().st_mtime) == (1, OLD[1])
    assert HashMemo(path).digest(scan) == text_digest("2")


def test_the_memo_survives_a_move_and_damage(tmp_path, later, monkeypatch):
    path = tmp_path / "out" / ".payerseg" / "hashes.json"
    file = write(tmp_path / "out" / "a", "1")
    later()
    memo = HashMemo(path)
    digest = memo.digest(file)
    memo.save()
    for damage in ("", "[]", '{"a": 3}', '{"a": [100, 5, "x"]}', "[" * 100_000):
        write(path, damage)
        assert HashMemo(path).digest(file) == digest
    memo._changed = True
    write(path, "")
    memo.save()
    (tmp_path / "out").rename(tmp_path / "moved")
    monkeypatch.setattr(fingerprint, "file_digest", None)  # nothing is read again
    moved = HashMemo(tmp_path / "moved" / ".payerseg" / "hashes.json")
    assert moved.digest(tmp_path / "moved" / "a") == digest


def test_names_that_no_system_takes_are_absent(tmp_path, memo):
    header = f"NDims = 3\nElementDataFile = {'d' * 300}.raw\n"
    assert scan_bytes(write(tmp_path / "a.mhd", header)) == len(header)
    assert scan_digest(tmp_path / "a.mhd", memo)
    for name in ("n" * 300, "nul\0"):
        assert not scan_exists(tmp_path / f"{name}.nii")
        assert scan_bytes(tmp_path / f"{name}.mhd") == 0
        with pytest.raises(BundleError):
            weights_digest(tmp_path / name, memo)


def test_absence_is_none_and_trouble_is_an_error(tmp_path, memo):
    assert digest_of(tmp_path / "absent", memo) is None
    with pytest.raises(ArtifactError, match="cannot read"):
        digest_of(write(tmp_path / "file", "x") / "below", memo)


@pytest.mark.parametrize(
    ("name", "header", "parts"),
    [
        ("a.mhd", "NDims = 3\nElementDataFile = a.raw\n", ["a.raw"]),
        ("a.mhd", "NDims = 3\nElementDataFile = LIST\ns1.raw\ns2.raw\n", ["s1.raw", "s2.raw"]),
        ("a.mhd", "ElementDataFile = LOCAL\n", []),
        ("a.nrrd", "NRRD0004\ntype: short\ndata file: a.raw.gz\n\n", ["a.raw.gz"]),
        ("a.nrrd", "NRRD0004\ntype: short\n\ndata file: no.header", []),
        ("a.nii", "ElementDataFile = a.raw\n", []),
    ],
)
def test_a_scan_is_all_its_files(tmp_path, memo, name, header, parts):
    scan = write(tmp_path / name, header)
    assert scan_files(scan) == [scan, *(tmp_path / part for part in parts)]
    for part in parts:
        write(tmp_path / part, "voxels")
    before = scan_digest(scan, memo)
    for part in parts:
        write(tmp_path / part, "other voxels")
        assert scan_digest(scan, memo) != before
        (tmp_path / part).unlink()
        assert scan_digest(scan, memo) not in (before, ABSENT)


def test_weights_are_card_weights_and_prior(tmp_path, memo):
    bundle = tmp_path / "bundle"
    with pytest.raises(BundleError, match="no weights at"):
        weights_digest(bundle, memo)
    write(bundle / "model.json", "{}")
    write(bundle / "model.weights.h5", "w")
    before = weights_digest(bundle, memo)
    write(bundle / "README.md", "about")
    assert weights_digest(bundle, memo) == before
    for name in ("spine_prior.json", "levels/model.json", "levels/model.weights.h5"):
        (bundle / name).parent.mkdir(exist_ok=True)
        write(bundle / name, "{}")
        before, earlier = weights_digest(bundle, memo), before
        assert before != earlier, name


def test_a_checkpoint_is_its_index_and_data(tmp_path, memo):
    write(tmp_path / "ckpt-1.index", "i")
    write(tmp_path / "ckpt-1.data-00000-of-00001", "d")
    before = weights_digest(tmp_path / "ckpt-1", memo)
    assert weights_digest(tmp_path / "ckpt-1.index", memo) == before
    write(tmp_path / "ckpt-10.index", "another")
    assert weights_digest(tmp_path / "ckpt-1", memo) == before
    write(tmp_path / "ckpt-1.data-00000-of-00001", "e")
    assert weights_digest(tmp_path / "ckpt-1", memo) != before


def test_every_part_is_in_the_key():
    parts = KeyParts("s", 1, {"a": 1}, "w", 0, {"ct": "h"})
    others = [
        KeyParts("t", 1, {"a": 1}, "w", 0, {"ct": "h"}),
        KeyParts("s", 2, {"a": 1}, "w", 0, {"ct": "h"}),
        KeyParts("s", 1, {"a": 2}, "w", 0, {"ct": "h"}),
        KeyParts("s", 1, {"a": 1}, None, 0, {"ct": "h"}),
        KeyParts("s", 1, {"a": 1}, "w", 1, {"ct": "h"}),
        KeyParts("s", 1, {"a": 1}, "w", 0, {"ct": "i"}),
        KeyParts("s", 1, {"a": 1}, "w", 0, {"ct": "h", "scan": "h"}),
    ]
    assert len({item.key for item in [parts, *others]}) == 8
    assert parts.key == KeyParts("s", 1, {"a": 1}, "w", 0, {"ct": "h"}).key
