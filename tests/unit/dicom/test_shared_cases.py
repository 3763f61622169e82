"""What the scripts of `shared/cases` write, read as a run would: their docstrings say what is right."""

import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("pydicom", reason="the extra `dicom` is not installed")

from payerseg.dicom.inventory import take_inventory
from payerseg.dicom.series import read_series
from payerseg.errors import InputError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

WHOLE, LOOK = "113 slices", "113 slices, review"
RIGHT = {
    "dicom_acquisitions": {
        "share_one": {WHOLE}, "overlap_five": {WHOLE}, "kvp": {WHOLE}, "boundary": {WHOLE},
        "three_parts": {WHOLE}, "adjoin": {WHOLE}, "shared_differs": {LOOK}, "phases": {WHOLE},
        "gap": {"53 slices, review"},
    },
    "dicom_uids": {
        "cut_uids": {WHOLE}, "pair_uids": {WHOLE}, "one_uid": {WHOLE}, "no_uid": {WHOLE},
        "copies": {WHOLE}, "copies_differ": {LOOK}, "two_patients": {WHOLE}, "cut_series": {WHOLE},
        "two_patients_noid": {"bad_geometry: slices of different content interleave"},
        "two_patients_flush": {WHOLE}, "two_patients_stacked": {WHOLE},
    },
    "dicom_split_keys": {
        "frame_halves": {WHOLE}, "frame_each": {WHOLE}, "study_halves": {WHOLE},
        "spacing_digits": {WHOLE}, "orientation_noise": {WHOLE}, "class_halves": {WHOLE},
        "type_halves": {WHOLE}, "modality_blank": {WHOLE}, "rescale_halves": {WHOLE},
        "series_halves": {"57 slices, review"}, "resent_ten": {WHOLE}, "resent_all": {WHOLE},
        "nearly_same": {WHOLE},
    },
    "dicom_headers": {
        "plain": {WHOLE}, "no_frame_of_reference": {WHOLE}, "no_thickness": {WHOLE},
        "no_spacing": {"bad_geometry: PixelSpacing is missing"}, "scout": {WHOLE},
        "mixed_scout": {WHOLE}, "rescale_text": {"not_hounsfield: values are of no defined type"},
        "rescale_us": {WHOLE}, "tilt": {WHOLE}, "reversed": {WHOLE}, "shuffled": {WHOLE},
        "no_numbers": {WHOLE}, "no_position": {"bad_geometry: ImagePositionPatient missing"},
        "uneven": {"bad_geometry: 1 slice(s) of 113 are missing"}, "hu_unsigned": {WHOLE},
        "padding": {WHOLE}, "per_slice_slope": {WHOLE}, "twelve_bits": {WHOLE},
        "float_strings": {WHOLE}, "spacing_lie": {WHOLE}, "feet_first": {WHOLE},
        "kernel_text": {WHOLE},
    },
}  # fmt: skip
OTHER_VALUES = ("padding", "tilt")
TWO_CASES = ("two_patients", "two_patients_flush", "two_patients_stacked")


def outcomes(folder):
    """What becomes of every wanted series of a folder, and the sum of its values."""
    inventory = take_inventory(folder)
    for decision in inventory.decide("best"):
        if decision.choice == "refused":
            yield f"{decision.volume.problem.kind}: {decision.reason}", 0
        if decision.choice == "chosen":
            try:
                raw = read_series(inventory.reference(decision))
            except InputError as error:
                yield f"{error.kind}: {str(error).partition(': ')[2]}", 0
                continue
            look = ", review" if any(note.review for note in raw.notes) else ""
            yield f"{len(raw.array)} slices{look}", int(np.sum(np.rint(raw.values()), dtype=float))


@pytest.mark.parametrize("script", sorted(RIGHT))
def test_every_case_has_its_right_outcome(shared_dir, tmp_path, script):
    program = shared_dir / "cases" / f"{script}.py"
    if not program.is_file():
        pytest.skip(f"{program} is not there")
    subprocess.run([sys.executable, str(program), str(tmp_path)], check=True, capture_output=True)
    wrong, sums = {}, {}
    for name, right in RIGHT[script].items():
        found = list(outcomes(tmp_path / name))
        said = {outcome for outcome, _ in found}
        if not all(any(o.startswith(start) for o in said) for start in right) or len(said) != 1:
            wrong[name] = said
        if len(found) != (2 if name in TWO_CASES else 1):
            wrong[name] = f"{len(found)} cases"
        if said == {WHOLE} and name not in (*TWO_CASES, *OTHER_VALUES):
            sums[name] = found[0][1]
    assert wrong == {}
    assert len(set(sums.values())) == 1, sums  # the same body in all
