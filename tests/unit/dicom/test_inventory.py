"""Everything that can be wrong with a folder of DICOM is told, and costs only what it is about."""

import numpy as np
import pytest

from payerseg.domain.grid import Grid


def chosen(decisions):
    return [d.volume.number for d in decisions if d.choice == "chosen"]


def take(dicom, files, tmp_path):
    return dicom.save(files, tmp_path / "s")


def one_off(files, k):
    return [f for n, f in enumerate(files) if n != k]


def moved(files, k, mm):
    x, y, z = (float(v) for v in files[k].ImagePositionPatient)
    files[k].ImagePositionPatient = [x + mm[0], y + mm[1], z + mm[2]]
    return files


def with_all(files, **tags):
    for data in files:
        for name, value in tags.items():
            setattr(data, name, value)
    return files


def without(files, *names):
    for data in files:
        for name in names:
            del data[name]
    return files


def fanned(files):
    for k, data in enumerate(files):
        angle = 0.1 * k
        data.ImageOrientationPatient = [np.cos(angle), np.sin(angle), 0, 0, 0, -1]
    return files


def as_video(files):
    from pydicom.encaps import encapsulate

    for data in files:
        data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.100"
        data.PixelData = encapsulate([data.PixelData])
        data["PixelData"].VR = "OB"
    return files


BROKEN = {
    "missing": (lambda f: one_off(f, 4), "1 slice(s) of 12 are missing, widest gap 8.00 mm"),
    "several missing": (lambda f: one_off(one_off(f, 4), 8), "2 slice(s) of 12 are missing"),
    "uneven": (lambda f: moved(f, 4, (0, 0, 1.3)), "varies from 2.70 to 5.30 mm"),
    "off the line": (lambda f: moved(f, 4, (0, 3, 0)), "do not lie on a straight line"),
    "shared place": (lambda f: moved(f, 4, (0, 0, 4)), "1 slice(s) of 12 are missing"),
    "fan": (fanned, "have 12 orientations"),
    "localizer": (
        lambda f: with_all(f, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
        "localizer",
    ),
    "no position": (lambda f: without(f, "ImagePositionPatient"), "ImagePositionPatient missing"),
    "no orientation": (lambda f: without(f, "ImageOrientationPatient"), "ImageOrientationPatient missing"),
    "no spacing": (lambda f: without(f, "PixelSpacing"), "PixelSpacing is missing"),
    "zero spacing": (lambda f: with_all(f, PixelSpacing=[0, 1]), "not positive"),
    "skewed": (lambda f: with_all(f, ImageOrientationPatient=[1, 0, 0, 0.6, 0.8, 0]), "right angle"),
    "two slices": (lambda f: f[:2], "2 slice(s); expected a volume of at least 3"),
    "electron density": (lambda f: with_all(f, RescaleType="ED"), "values are ED (RescaleType), not"),
    "unknown syntax": (as_video, "not known"),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_a_broken_series_says_what_is_wrong(dicom, ct, tmp_path, name):
    damage, said = BROKEN[name]
    assert said in dicom.problem(take(dicom, damage(dicom.slices(ct)), tmp_path))


def test_mr_is_left_aside_and_no_failure(dicom, ct, tmp_path):
    files = dicom.slices(ct, Modality="MR", SOPClassUID="1.2.840.10008.5.1.4.1.1.4")
    (decision,) = dicom.decide(take(dicom, files, tmp_path))
    assert (decision.choice, decision.reason) == ("left", "modality is MR; expected CT")


def test_a_missing_decoder_is_named(dicom, ct, tmp_path, monkeypatch):
    from pydicom.uid import RLELossless

    from payerseg.dicom import geometry

    files = dicom.slices(ct)
    for data in files:
        data.compress(RLELossless, generate_instance_uid=False)

    class NoDecoder:
        is_available = False
        missing_dependencies = ("gdcm - requires gdcm>=3.0.10",)

    monkeypatch.setattr(geometry, "get_decoder", lambda uid: NoDecoder)
    said = dicom.problem(take(dicom, files, tmp_path))
    assert "RLE Lossless" in said
    assert "requires gdcm>=3.0.10" in said
    assert "pip install 'payerseg[dicom]'" in said


@pytest.mark.parametrize("keep", [0.5, 0.98])
def test_truncated_pixels(dicom, ct, tmp_path, keep):
    folder = take(dicom, dicom.slices(ct), tmp_path)
    path = sorted(folder.iterdir())[3]
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    assert f"end before their pixels do, e.g. {path.name}" in dicom.problem(folder)


def test_a_truncated_header_is_a_missing_slice_and_told(dicom, ct, tmp_path):
    from payerseg.dicom.inventory import take_inventory

    folder = take(dicom, dicom.slices(ct), tmp_path)
    path = next(p for p in folder.iterdir() if p.name not in ("0000.dcm", "0407.dcm"))
    path.write_bytes(path.read_bytes()[:500])
    inventory = take_inventory(folder)
    assert sum(len(v.frames) for v in inventory.volumes) == 11
    assert any("DICOM file(s)" in remark for remark in inventory.remarks)


def test_other_files_are_counted(dicom, ct, tmp_path):
    from payerseg.dicom.inventory import take_inventory

    folder = dicom.save(dicom.slices(ct), tmp_path / "s", "IM{:05d}")
    (folder / "readme.txt").write_text("hello")
    (folder / "picture.jpg").write_bytes(b"\xff\xd8\xff" + bytes(500))
    (folder / "empty").write_bytes(b"")
    (folder / ".DS_Store").write_bytes(b"\0" * 6148)
    report = dicom.header("1.2.840.10008.5.1.4.1.1.88.33", Modality="SR")
    report.save_as(folder / "report.dcm", enforce_file_format=True)
    inventory = take_inventory(folder)
    assert len(inventory.volumes) == 1
    assert inventory.volumes[0].problem is None
    assert set(inventory.remarks) == {
        "3 file(s) are not DICOM",
        "1 DICOM file(s) without an image (reports, structures)",
    }


def unreadable(monkeypatch, name):
    """Let a file be one that may not be opened; as root there is none."""
    import errno
    import os

    from payerseg.dicom.source import DicomSource

    stream = DicomSource._stream

    def refusing(self, member):
        if member.endswith(name):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), member)
        return stream(self, member)

    monkeypatch.setattr(DicomSource, "_stream", refusing)


def test_a_slice_that_may_not_be_read_is_said_to_be_so(dicom, ct, tmp_path, monkeypatch):
    files = dicom.slices(ct)
    folder = dicom.save(files, tmp_path / "s")
    unreadable(monkeypatch, "0148.dcm")  # the fifth
    (decision,) = dicom.decide(folder)
    assert decision.choice == "refused"
    assert decision.volume.problem.kind == "unreadable"
    assert "0148.dcm cannot be read: permission denied" in decision.reason
    assert "missing" not in decision.reason
    assert [d.choice for d in dicom.decide(folder, fill_gaps=True)] == ["chosen"]


@pytest.mark.parametrize("how", ["forbidden", "damaged", "empty"])
def test_a_lost_slice_at_the_end_asks_for_a_look(dicom, ct, tmp_path, monkeypatch, how):
    folder = dicom.save(dicom.slices(ct), tmp_path / "s" / "a")
    dicom.save(dicom.slices(ct), tmp_path / "s" / "b")
    last = folder / "0407.dcm"
    if how == "forbidden":
        unreadable(monkeypatch, "a/0407.dcm")
    else:
        last.write_bytes(last.read_bytes()[:500] if how == "damaged" else b"")
    one, other = (raw_notes(dicom, tmp_path / "s", part) for part in "ab")
    assert (
        "1 file(s) beside its slices could not be used, e.g. a/0407.dcm" in one["dicom_lost_files"]
    )
    assert "dicom_lost_files" not in other


def raw_notes(dicom, folder, part):
    """What is noted for the series in a subfolder."""
    from payerseg.dicom.inventory import take_inventory
    from payerseg.dicom.series import read_series

    inventory = take_inventory(folder)
    decisions = [d for d in inventory.decide("all") if d.volume.members[0].startswith(part)]
    raw = read_series(inventory.reference(decisions[0]))
    assert all(note.review for note in raw.notes if note.code == "dicom_lost_files")
    return {note.code: note.message for note in raw.notes}


def deflated(data, kind):
    """A deflated file whose meta header is unusual, as bytes."""
    import io
    import zlib

    from pydicom.uid import DeflatedExplicitVRLittleEndian

    data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    buffer = io.BytesIO()
    data.save_as(buffer, enforce_file_format=True)
    raw = buffer.getvalue()
    start = 144 + int.from_bytes(raw[140:144], "little")
    meta, body = raw[144:start], zlib.decompress(raw[start:], -zlib.MAX_WBITS)
    if kind == "late syntax":  # a version of 2 kB in the place of one of two bytes
        size = (2048).to_bytes(4, "little")
        meta = b"\x02\0\x01\0OB\0\0" + size + b"\0\1" + bytes(2046) + meta[14:]
    length = 0 if kind == "zero length" else len(meta)
    group = b"\x02\0\0\0UL\4\0" + length.to_bytes(4, "little")
    head = raw[:132] + (b"" if kind == "no length" else group) + meta
    if kind == "no preamble":
        head = head[132:]
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return head, lambda more: packer.compress(body + more) + packer.flush()


@pytest.mark.parametrize(
    "kind", ["plain", "late syntax", "no length", "zero length", "no preamble"]
)
def test_a_deflated_file_is_inflated_within_bounds(dicom, ct, tmp_path, monkeypatch, kind):
    from payerseg.dicom import headers
    from payerseg.dicom.inventory import take_inventory

    inflated = []
    real = headers.pydicom.dcmread
    monkeypatch.setattr(
        headers.pydicom, "dcmread", lambda *a, **k: inflated.append(1) or real(*a, **k)
    )
    monkeypatch.setattr(headers, "MIN_SUSPICIOUS_BYTES", 1 << 20)
    for more, n_found in ((b"", 1), (bytes(1 << 23), 0)):
        head, pack = deflated(dicom.slices(ct)[0], kind)
        inflated.clear()
        (tmp_path / "s").mkdir(exist_ok=True)
        (tmp_path / "s" / "one.dcm").write_bytes(head + pack(more))
        inventory = take_inventory(tmp_path / "s")
        assert sum(len(v.frames) for v in inventory.volumes) == n_found
        assert len(inflated) == n_found
    assert "one.dcm is too large: it inflates to more than" in inventory.remarks[0]


def test_who_the_patient_is_is_not_in_the_records(dicom, ct, tmp_path):
    from payerseg.dicom.inventory import take_inventory

    files = dicom.slices(ct)
    (volume,) = take_inventory(dicom.save(files, tmp_path / "s")).volumes
    text = repr(volume)
    assert not any(value in text for value in dicom.patient.values())
    assert len({frame.patient for frame in volume.frames}) == 1


def test_files_without_preamble(dicom, ct, tmp_path):
    folder = take(dicom, dicom.slices(ct), tmp_path)
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[132:])
    assert np.array_equal(dicom.read(folder).values(), ct.array)


def test_copies_of_slices_do_not_matter(dicom, ct, tmp_path):
    files = dicom.slices(ct)
    dicom.save(files, tmp_path / "s" / "a")
    dicom.save(files[:7], tmp_path / "s" / "b")
    raw = dicom.read(tmp_path / "s")
    assert np.array_equal(raw.values(), ct.array)
    assert any("7 copies of slices" in note.message for note in raw.notes)


@pytest.mark.parametrize("tag", ["AcquisitionNumber", "AcquisitionTime", "ConvolutionKernel", None])
def test_acquisitions_in_one_series_are_told_apart(dicom, ct, tmp_path, tag):
    first = dicom.slices(ct)
    uids = {
        n: first[0][n].value
        for n in ("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")
    }
    second = dicom.slices(dicom.phantom(dicom.grid(), seed=1), **uids)
    for number, files in enumerate((first, second), start=1):
        for data in files:
            data.InstanceNumber = data.InstanceNumber + 1000 * number
            if tag:
                setattr(data, tag, f"10000{number}" if tag == "AcquisitionTime" else str(number))
    folder = take(dicom, [*first, *second], tmp_path)
    assert chosen(dicom.decide(folder, "all")) == ["3/1", "3/2"]
    one, two = (dicom.read(folder, f"3/{part}") for part in (1, 2))
    assert np.array_equal(one.values(), ct.array)
    assert np.array_equal(two.values(), dicom.phantom(dicom.grid(), seed=1).array)
    assert any("told apart by" in note.message for note in one.notes)


def test_one_uid_for_two_orientations(dicom, ct, tmp_path):
    first = dicom.slices(ct)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[0.8, -0.6], [0.6, 0.8]]
    other = dicom.phantom(Grid.from_matrix((8, 30, 30), turn @ ct.grid.matrix))
    uids = {
        n: first[0][n].value
        for n in ("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")
    }
    folder = take(dicom, [*first, *dicom.slices(other, **uids)], tmp_path)
    assert np.array_equal(dicom.read(folder, "3/1").values(), ct.array)
    assert np.array_equal(dicom.read(folder, "3/2").values(), other.array)


def test_the_rule(dicom, ct, tmp_path):
    """Each next series beats all before it in an earlier point of the rule."""
    study = {"StudyInstanceUID": "1.2.3"}
    derived = ["DERIVED", "SECONDARY", "AXIAL"]
    body = dicom.grid(12, 4.0)
    upright = Grid((40, 12, 12), (4.0, 4.0, 1.0), (0, 0, 0), (0, 0, -1, 1, 0, 0, 0, -1, 0))
    ladder = [
        (dicom.grid(60, 1.0), {"ImageType": derived}, "derived; series 6 is original"),
        (upright, {}, "not transverse; series 6 is"),
        (body, {}, "12 slices; series 6 has 14"),
        (dicom.grid(14, 5.0), {}, "slices of 5 mm; series 6 has 3.5 mm"),
        (dicom.grid(14, 3.5), {}, "chosen"),
        (dicom.grid(14, 3.5), {}, "as good as series 6"),
    ]
    root = tmp_path / "s"
    for number, (grid, tags, _) in enumerate(ladder, start=2):
        files = dicom.slices(dicom.phantom(grid), SeriesNumber=number, **study, **tags)
        dicom.save(files, root / str(number))
    scout = dicom.slices(
        ct, SeriesNumber=1, **study, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]
    )
    dicom.save(scout, root / "1")
    decisions = {d.volume.number: d for d in dicom.decide(root)}
    assert decisions["1"].choice == "left"
    for number, (_, _, said) in enumerate(ladder, start=2):
        decision = decisions[str(number)]
        assert said in (decision.choice if said == "chosen" else decision.reason)


@pytest.mark.parametrize("wanted", ["7", "bone 1.0", "B70", "uid"])
def test_the_user_may_choose(dicom, ct, tmp_path, wanted):
    soft = dicom.slices(
        ct, SeriesNumber=3, SeriesDescription="Soft 1.0 B31", StudyInstanceUID="1.2"
    )
    bone = dicom.slices(
        ct, SeriesNumber=7, SeriesDescription="Bone 1.0 B70", StudyInstanceUID="1.2"
    )
    dicom.save(soft, tmp_path / "s" / "a")
    dicom.save(bone, tmp_path / "s" / "b")
    wanted = bone[0].SeriesInstanceUID if wanted == "uid" else wanted
    assert chosen(dicom.decide(tmp_path / "s", wanted)) == ["7"]
    assert chosen(dicom.decide(tmp_path / "s", "all")) == ["3", "7"]
    assert chosen(dicom.decide(tmp_path / "s", "nothing like it")) == []


def test_a_dicomdir_is_compared_with_what_is_there(dicom, ct, tmp_path):
    from pydicom.fileset import FileSet

    from payerseg.dicom.inventory import take_inventory

    media = FileSet()
    for data in dicom.slices(ct):
        media.add(data)
    media.write(tmp_path / "media")
    assert np.array_equal(dicom.read(tmp_path / "media").values(), ct.array)
    assert take_inventory(tmp_path / "media").remarks == ()
    images = sorted(
        p for p in (tmp_path / "media").rglob("*") if p.is_file() and p.name != "DICOMDIR"
    )
    images[4].unlink()
    (remark,) = take_inventory(tmp_path / "media").remarks
    assert "1 DICOM file(s) are damaged, unreadable or not there" in remark
    assert "is listed in DICOMDIR but not there" in remark
    assert "listed in DICOMDIR but not there" in dicom.problem(tmp_path / "media")


def test_any_damage_to_a_header_is_foreseen(dicom, ct, tmp_path):
    """Bytes of a file are changed at random; whatever comes of it, it is no bug."""
    from payerseg.dicom.headers import read_frames
    from payerseg.dicom.volumes import find_volumes
    from payerseg.errors import UnreadableScan

    folder = dicom.save([*dicom.slices(ct)[:1], dicom.enhanced(ct)], tmp_path / "s")
    rng = np.random.default_rng(7)
    n_read = n_refused = 0
    for path in folder.iterdir():
        whole = path.read_bytes()
        for _ in range(150):
            changed = bytearray(whole[: rng.integers(150, len(whole))])
            n_head = min(len(changed), 6000)
            for place in rng.integers(132, n_head, rng.integers(1, 12)):
                changed[place] = rng.integers(0, 256)
            target = tmp_path / "changed.dcm"
            target.write_bytes(changed)
            try:
                with target.open("rb") as file:
                    find_volumes(read_frames(file, "changed.dcm", len(changed)))
                n_read += 1
            except UnreadableScan:
                n_refused += 1
    assert n_read > 50
    assert n_refused > 10
