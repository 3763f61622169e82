"""Zips are read in place, within bounds."""

import io
import zipfile

import numpy as np
import pytest

from payerseg.dicom import source as room
from payerseg.dicom.source import DicomSource
from payerseg.errors import UnreadableScan


def test_a_zip_is_read_like_its_folder_and_nothing_is_unpacked(dicom, ct, tmp_path):
    folder = dicom.save(dicom.slices(ct), tmp_path / "in" / "s")
    archive = dicom.zipped(folder)
    before = sorted(tmp_path.rglob("*"))
    assert np.array_equal(dicom.read(archive).values(), ct.array)
    assert sorted(tmp_path.rglob("*")) == before


def test_names_that_lead_out_of_the_zip_lead_nowhere(dicom, ct, tmp_path):
    files = dicom.slices(ct)
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        for k, data in enumerate(files):
            buffer = io.BytesIO()
            data.save_as(buffer, enforce_file_format=True)
            archive.writestr(f"../../../../tmp/evil/{k}.dcm", buffer.getvalue())
    before = sorted(tmp_path.parent.rglob("*"))
    assert np.array_equal(dicom.read(tmp_path / "evil.zip").values(), ct.array)
    assert sorted(tmp_path.parent.rglob("*")) == before


def test_a_bomb_is_refused_before_it_is_read(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros.dcm", bytes(1 << 22))
    monkeypatch.setattr(room, "MIN_SUSPICIOUS_BYTES", 1 << 20)
    with (
        pytest.raises(UnreadableScan, match="promises 1 files of 4194304 bytes"),
        DicomSource(tmp_path / "bomb.zip"),
    ):
        pass


def test_a_member_larger_than_any_image_is_refused(dicom, ct, tmp_path, monkeypatch):
    archive = dicom.zipped(dicom.save(dicom.slices(ct), tmp_path / "s"))
    monkeypatch.setattr(room, "MAX_MEMBER_BYTES", 1000)
    with DicomSource(archive) as opened:
        member = opened.open(opened.names()[0])
        with pytest.raises(UnreadableScan, match="at most 1000"), member:
            pass


def test_a_member_that_lies_about_its_size(tmp_path):
    """The size in the directory is a promise; no more than that is ever read."""
    path = tmp_path / "liar.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.dcm", bytes(1 << 20))
    data = path.read_bytes()
    size = (1 << 20).to_bytes(4, "little")
    path.write_bytes(data.replace(size, (4096).to_bytes(4, "little")))
    with DicomSource(path) as opened:
        member = opened.open("a.dcm")
        with pytest.raises(UnreadableScan, match="cannot be read"), member as file:
            assert file is None, "it was opened all the same"


@pytest.mark.parametrize("cut", [10, 2000, -30])
def test_a_damaged_zip(dicom, ct, tmp_path, cut):
    archive = dicom.zipped(dicom.save(dicom.slices(ct), tmp_path / "s"))
    archive.write_bytes(archive.read_bytes()[:cut])
    with pytest.raises(UnreadableScan, match="no readable zip"), DicomSource(archive):
        pass


def test_damaged_bytes_inside_a_zip_cost_that_file(dicom, ct, tmp_path):
    archive = dicom.zipped(dicom.save(dicom.slices(ct), tmp_path / "s"))
    data = bytearray(archive.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 40] = bytes(40)
    archive.write_bytes(data)
    from payerseg.dicom.inventory import take_inventory

    assert sum(len(v.frames) for v in take_inventory(archive).volumes) in (11, 12)


def test_an_encrypted_zip(dicom, ct, tmp_path):
    archive = dicom.zipped(dicom.save(dicom.slices(ct), tmp_path / "s"))
    data = bytearray(archive.read_bytes())
    at = data.find(b"PK\x01\x02")
    data[at + 8] |= 1  # the flag in the directory
    archive.write_bytes(data)
    with pytest.raises(UnreadableScan, match="encrypted; unpack it first"), DicomSource(archive):
        pass


def test_zips_in_a_zip_are_told(tmp_path):
    with zipfile.ZipFile(tmp_path / "outer.zip", "w") as archive:
        archive.writestr("inner.zip", b"")
        archive.writestr("__MACOSX/._a.dcm", b"")
        archive.writestr("a.txt", b"")
    with DicomSource(tmp_path / "outer.zip") as opened:
        assert opened.names() == ["a.txt"]
        assert opened.left_aside == ["1 zip file(s) inside the zip; unpack them first"]


def test_links_do_not_loop(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "gone").symlink_to(tmp_path / "nothing")
    (tmp_path / "a" / "f").write_bytes(b"x")
    with DicomSource(tmp_path) as opened:
        assert opened.names() == ["a/f"]
