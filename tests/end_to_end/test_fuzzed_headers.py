"""200 headers with random faults in one run: each is read as other readers do, doubted, or refused by name.

The faults are seeded: fields of NIfTI headers take random bytes, extremes or other scans' values; lines of
NRRD and MetaImage headers are lost, doubled, or their words exchanged.
"""

import gzip
import json
import math
import random

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from payerseg.domain.grid import Grid
from payerseg.imaging.files import write_volume
from payerseg.results.artifacts import CT, SCAN
from payerseg.results.case_folder import CaseFolder
from payerseg.results.formats import read_artifact

pytestmark = pytest.mark.slow
N_HEADERS = 200
ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mhd")
GRID = Grid((36, 24, 24), (5.0, 5.0, 5.0), (-57.5, -57.5, -87.5))
FIELDS = nib.Nifti1Header.template_dtype.fields
EXTREMES = (
    0,
    1,
    -1,
    2,
    7,
    127,
    -32768,
    32767,
    2**31 - 1,
    1e-30,
    1e30,
    math.inf,
    -math.inf,
    math.nan,
)
WORDS = (
    "",
    "0",
    "-1",
    "1e400",
    "nan",
    "2147483648",
    "(1,0,0)",
    "none",
    "§",
    "x" * 5000,
    "\0",
    "../a.nii",
)
REFUSALS = ("unreadable", "not_3d", "bad_geometry", "not_hounsfield", "input")
DONE, DOUBTED = "done_to_preparation", "done_to_preparation_needs_review"
OTHER_ITK_MM = 1e-3


def fuzz_nifti(content, dice):
    header = bytearray(content)
    for _ in range(dice.randint(1, 3)):
        name = dice.choice(list(FIELDS))
        kind, place = FIELDS[name][:2]
        number, width = dice.randrange(max(1, math.prod(kind.shape))), kind.base.itemsize
        place += number * width
        if kind.base.kind in "fi" and dice.random() < 0.7:
            with np.errstate(all="ignore"):
                value = np.nan_to_num(dice.choice(EXTREMES), posinf=9e9, neginf=-9e9)
                value = dice.choice(EXTREMES) if kind.base.kind == "f" else int(value) % 2**15
            header[place : place + width] = np.array(value, kind.base).tobytes()
        else:
            header[place : place + width] = dice.randbytes(width)
    return bytes(header)


def fuzz_text(content, dice, end):
    """Change lines of the header, which ends where `end` begins; what comes after it stays."""
    head, mark, data = content.partition(end)
    lines = head.decode("latin-1").split("\n")
    for _ in range(dice.randint(1, 2)):
        number = dice.randrange(1, len(lines))
        words = lines[number].split(" ")
        words[dice.randrange(len(words))] = dice.choice(WORDS)
        changed = {"drop": [], "double": [lines[number]] * 2, "word": [" ".join(words)]}
        lines[number : number + 1] = changed[dice.choice(list(changed))]
        if len(lines) < 2:
            break
    return "\n".join(lines).encode("utf-8") + mark + data


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory, synthetic_spine, run_program):
    """Folder of results, path of every scan, and what the run said of each case."""
    root = tmp_path_factory.mktemp("fuzzed")
    inputs, scans = root / "in", {}
    inputs.mkdir()
    ct = synthetic_spine(GRID).ct
    for number in range(N_HEADERS):
        dice, ending = random.Random(number), ENDINGS[number % len(ENDINGS)]
        path = scans[f"{number:03d}"] = inputs / f"{number:03d}{ending}"
        write_volume(ct, path)
        content = path.read_bytes()
        if ending == ".nii.gz":
            path.write_bytes(gzip.compress(fuzz_nifti(gzip.decompress(content), dice), 1))
        elif ending == ".nii":
            path.write_bytes(fuzz_nifti(content, dice))
        else:
            path.write_bytes(fuzz_text(content, dice, b"\n\n" if ending == ".nrrd" else b"\0\0"))
    done = run_program(
        "-m", "payerseg", "run", inputs, "-o", root / "out", "--to-stage", "preparation", "--json"
    )
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    summary = json.loads(done.stdout)
    return root / "out", scans, {case["case_id"]: case for case in summary["cases"]}, summary


def as_others_read(path):
    """Shape (x, y, z), LPS matrix and values of a scan by another reader than ours."""
    if path.suffix in (".gz", ".nii"):
        image = nib.load(path)
        matrix = np.diag([-1, -1, 1, 1]) @ image.affine
        return image.shape[:3], matrix, np.squeeze(image.get_fdata())
    image = SimpleITK.ReadImage(str(path))
    matrix = np.eye(4)
    direction = np.array(image.GetDirection()).reshape(3, 3)
    matrix[:3, :3] = direction * image.GetSpacing()
    matrix[:3, 3] = image.GetOrigin()
    return image.GetSize(), matrix, SimpleITK.GetArrayFromImage(image).T


@pytest.mark.parametrize("number", range(N_HEADERS))
def test_a_header_is_believed_doubted_or_refused(outcomes, number, record_property):
    out, scans, cases, _ = outcomes
    case_id = f"{number:03d}"
    status, message = cases[case_id]["status"], cases[case_id]["message"]
    record_property("outcome", status)
    record_property("said", message)
    if status not in (DONE, DOUBTED):
        assert status.removeprefix("failed_preparation_") in REFUSALS, message
        assert message
        return
    record = read_artifact(SCAN, CaseFolder(out / case_id, case_id).path(SCAN))
    if status == DOUBTED or record.notes:
        return  # what is unusual is told
    shape, matrix, values = as_others_read(scans[case_id])
    assert record.source.grid.shape[::-1] == tuple(shape)
    np.testing.assert_allclose(record.source.grid.matrix, matrix, atol=OTHER_ITK_MM)
    ct = nib.load(CaseFolder(out / case_id, case_id).path(CT))
    assert abs(float(np.mean(ct.dataobj)) - float(values.mean())) < 1


def test_no_header_takes_much_memory(outcomes, record_property):
    peak_mb = max(process["peak_rss_mb"] for process in outcomes[3]["processes"])
    record_property("outcome", f"{peak_mb:.0f} MB")
    assert peak_mb < 1500
