"""What is right for every input of `shared/cases`, declared; `faults.py` makes the inputs and runs them.

A script of that folder is `python NAME.py OUT`; its docstring says what is unusual and what is right.
Statuses are patterns of `fnmatch`; the first expectation whose `case` fits counts.
A scan goes as far as what is right for it can be seen: most faults of values, headers and DICOM show in
preparation, names after stage 2, a body that is turned against its header in the report.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

PREPARATION, NAMES = "preparation", "vertebrae_localization"
REVIEW = "ok_needs_review"
DONE, DOUBTED = f"done_to_{PREPARATION}", f"done_to_{PREPARATION}_needs_review"
READ = (DONE, DOUBTED)
PLACED = f"done_to_{NAMES}"
NAMED = (PLACED, f"{PLACED}_needs_review", REVIEW)
"""Named, or in need of a look where no vertebra could be named; never without a word."""
REFUSED = ("failed_preparation_*",)
NOT_HU = "failed_preparation_not_hounsfield"
UNUSABLE = ("failed_preparation_*", "exit 2", "exit 3")
OF_RESULTS = ("damaged_state", "landmark_edits")
"""Scripts that damage finished results; `tests/end_to_end/test_damaged_state.py` tries what they do."""
USAGE = "failed_preparation_usage"
NO_CRASH = (0, 2, 3)


@dataclass(frozen=True, slots=True)
class Right:
    """What is right for a case.

    Attributes:
        statuses: patterns of `status`; "exit N" where a run has no case.
        says: what the case's message, the run's notices or the scan's notes must hold, a regular expression.
        case: pattern of the case id; where every folder is a run, of the folder or of "folder/case id".
        slices: of the prepared CT; 0 = not asked.
        finds: case ids that the run must have, no more and no less; empty = not asked.
        same_as: a case of the same folder whose prepared CT is equal to 1 HU.
        peak_mb: memory that no stage may exceed; 0 = not asked.
        hides: a text that must be in no file of the results, and in nothing that is said.
    """

    statuses: tuple[str, ...]
    says: str = ""
    case: str = "*"
    slices: int = 0
    finds: tuple[str, ...] = ()
    same_as: str = ""
    peak_mb: int = 0
    hides: str = ""


@dataclass(frozen=True, slots=True)
class Scans:
    """Scans that go through `payerseg run`.

    Attributes:
        script: of `shared/cases`.
        rights: the first that fits a case counts.
        to_stage: the last stage to run; "" runs all. Names are held against the truth where they are sure.
        layout: scans of several scripts "together" in one run; one "folder"; or every folder below
            OUT as a run of its own ("studies").
        folder: below OUT, where the scans of a "folder" lie.
        arguments: of the script, after OUT; "{data}" is the folder of shared data.
        alias: prefix of the cases, where a script is used twice.
    """

    script: str
    rights: tuple[Right, ...]
    to_stage: str = PREPARATION
    layout: Literal["together", "folder", "studies"] = "together"
    folder: str = ""
    arguments: tuple[str, ...] = ()
    alias: str = ""


@dataclass(frozen=True, slots=True)
class Ends:
    """How a command must end.

    Attributes:
        codes: exit codes that are right.
        says: what the output must hold, a regular expression.
        case: pattern of the folder's name.
    """

    codes: tuple[int, ...] = NO_CRASH
    says: str = ""
    case: str = "*"


@dataclass(frozen=True, slots=True)
class Commands:
    """Commands of which none may crash.

    Attributes:
        script: of `shared/cases`.
        commands: words after `payerseg`; "{out}" is the script's OUT, "{folder}" each match of `each`,
            "{work}" a fresh folder.
        each: a pattern below OUT; the commands run for each match.
        rights: the first that fits the folder counts.
    """

    script: str
    commands: tuple[str, ...]
    each: str = ""
    rights: tuple[Ends, ...] = (Ends(),)


def scan(
    script: str, *statuses: str, says: str = "", to_stage: str = PREPARATION, **more: str
) -> Scans:
    """Return a script that writes one scan, or several of which the same is right."""
    return Scans(script, (Right(statuses, says),), to_stage, **more)


def _each(rights: Mapping[str, Right | tuple[str, ...]]) -> tuple[Right, ...]:
    """Return expectations by patterns of cases, several of them separated by blanks."""
    return tuple(
        replace(right if isinstance(right, Right) else Right(right), case=case)
        for cases, right in rights.items()
        for case in cases.split()
    )


VALUES = (
    scan("background_zero", *NAMED, to_stage=NAMES),
    scan("cement", *NAMED, to_stage=NAMES),
    scan("cone_beam_like", *NAMED, to_stage=NAMES),
    scan("half_scale_values", *REFUSED, DOUBTED, says="half|Hounsfield"),
    scan("inverted_values", NOT_HU),
    scan("low_dose_noise", *NAMED, to_stage=NAMES),
    scan("metal", *NAMED, says="^done up to|ml of metal", to_stage=NAMES),
    scan("mr_like", NOT_HU, DOUBTED),
    scan("offset_lost_noisy_air", *READ, NOT_HU, says="1024|Hounsfield"),
    scan("offset_lost_round_field", *READ, says="1024"),
    scan("offset_lost_then_resampled", *READ, NOT_HU, says="1024|Hounsfield"),
    scan("screenshot_bytes", NOT_HU, says="picture"),
    scan("window_clipped", *REFUSED, DOUBTED, says="window"),
)
HEADERS = (
    scan("header_turned_decubitus", *NAMED, to_stage=NAMES),
    scan(
        "header_turned_decubitus", *NAMED, alias="aorta-", to_stage=NAMES,
        arguments=("--ct", "{data}/ct/ts_aorta_example.nii.gz"),
    ),
    scan("header_turned_prone", REVIEW, says="turned|exchanged", to_stage=""),
    scan("header_upside_down", REVIEW, says="upside down", to_stage=""),
    scan(
        "header_upside_down", REVIEW, says="upside down", alias="thorax-", to_stage="",
        arguments=("--ct", "{data}/ct/sts_037.nii.gz"),
    ),
    scan("last_axis_of_one", DONE),
    scan("mouse_sized", *REFUSED, *NAMED[1:], "no_spine", to_stage=NAMES),
    scan("no_codes_lps_data", DOUBTED, says="orientation"),
    scan("pixel_stack_identity_matrix", *REFUSED, DOUBTED, says="unit matrix"),
    scan("rotated_with_zero_fill", *NAMED, to_stage=NAMES),
    scan("sform_from_slice_thickness", DOUBTED, says="contradict"),
)  # fmt: skip
PLACES = (
    scan("crushed_vertebrae", *NAMED, to_stage=NAMES),
    Scans("few_slices", _each({"*_1": ("failed_preparation_not_3d",),
                               "*": ("failed_preparation_bad_geometry",)})),
    Scans("fine_grid", (Right(READ, peak_mb=1000),),  # 88 million voxels, 176 MB as they are stored
          arguments=("--ct", "{data}/ct/sts_037.nii.gz")),
    scan("fused_discs", *NAMED, to_stage=NAMES),
    scan("slices_blank_band", DOUBTED, says="blank"),
    scan("slices_far_apart", *NAMED, to_stage=NAMES),
    scan("slices_missing_restacked", DOUBTED, says="jump"),
    scan("slices_odd_then_even", *REFUSED, DOUBTED, says="jump|order"),
    scan("spine_at_the_edge", *NAMED, to_stage=NAMES),
    scan("two_table_stops_overlap", DOUBTED, says="jump|doubled"),
)  # fmt: skip
SAME = Right((DONE,), same_as="plain")
FILES = (
    Scans("nifti_headers", _each({
        "cut_* dim_* dim0_wrong inter_nan": REFUSED,
        "time_2 rgb complex one_slice": ("failed_preparation_not_3d",),
        "two_slices spacing_0 spacing_1e9 spacing_micro": ("failed_preparation_bad_geometry",),
        "gz_crc plain_cut empty hdr_magic": ("failed_preparation_unreadable",),
        "no_form": Right((DOUBTED,), "no_orientation"),
        "shear_flat": (DOUBTED, "failed_preparation_bad_geometry"),
        "slope_inf": Right((DOUBTED, "failed_preparation_unreadable"), "scl_slope is inf|bad_scaling"),
        "constant": (DONE, NOT_HU),
        "uint16_raw": Right((DONE, NOT_HU), "offset_removed|Hounsfield"),
        "int8": READ,
        "float64_nan float32_inf": Right((DONE, *REFUSED), "non_finite"),
        "shear_10deg": Right((DONE,), "sheared"),
        "origin_nan": (DONE, *REFUSED),
        "sform_nan sform_zero": Right((DONE,), "sform", same_as="plain"),
        "forms_differ": Right((DONE,), "qform_sform_differ", same_as="plain"),
        "units_metre": Right((DONE,), "units", same_as="plain"),
        "slope_0_inter": Right((DONE,), "unused_intercept", same_as="plain"),
        "gz_garbage surplus": Right((DONE,), "surplus_bytes", same_as="plain"),
        "named_gz named_nii": Right((DONE,), "misnamed", same_as="plain"),
        "*": SAME,
    }), layout="folder"),
    Scans("nifti_extension", _each({
        "esize_*": Right((DONE,), "bad_extension", same_as="none"),
        "*": Right((DONE,), same_as="none"),
    }), layout="folder", folder="ct"),
    Scans("itk_files", _each({
        "sound latin1": (DONE,),
        "long_line closed*": (DONE, *REFUSED),  # root may read all; three of them share one id
        "*_spacing": ("failed_preparation_bad_geometry",),
        "big_claim": ("failed_preparation_bad_geometry", "failed_preparation_unreadable"),
        "*": ("failed_preparation_unreadable",),
    }), layout="folder", folder="in"),
)  # fmt: skip
WHOLE = Right((DONE,), slices=113)
_DICOM = {
    "dicom_acquisitions": {
        "shared_differs": Right((DOUBTED,), "doubled", slices=113),
        "gap": Right((DOUBTED, "failed_preparation_bad_geometry"), "50 slices|missing"),
        "phases": Right((DONE,), "best of 2", slices=113),
        "*": WHOLE,
    },
    "dicom_bolus_slices_inside": {"*": Right(READ, "30 slices", slices=133)},
    "dicom_bolus_slices_one_acquisition": {"*": Right(READ, "30 slices", slices=133)},
    "dicom_gantry_tilt": {"*": Right(READ, "gantry_tilt")},
    "dicom_headers": {
        "no_spacing": Right(UNUSABLE, "PixelSpacing"),
        "rescale_text": Right((NOT_HU,), "RescaleType", hides="DOE"),
        "no_position": Right(UNUSABLE, "ImagePositionPatient"),
        "uneven": Right((*UNUSABLE, DOUBTED), "1 slice"),
        "tilt": Right(READ, "gantry_tilt", slices=113),
        "description_text kernel_text": Right(READ, slices=113, hides="DOE"),
        "*": Right(READ, slices=113),
    },
    "dicom_monochrome1": {"*": Right((DONE,), slices=133)},
    "dicom_no_positions": {"*": Right(UNUSABLE, "ImagePositionPatient")},
    "dicom_one_slice_of_other_plane": {"*": Right(READ, "1 (image|slice|picture)", slices=133)},
    "dicom_packed": {
        "bomb_*": Right((DONE,), "bomb.dcm", slices=113),
        "truncated": Right(("failed_preparation_unreadable",), "5 file"),
        "zip_zip": Right(UNUSABLE, "zip"),
        "*": WHOLE,
    },
    "dicom_same_slices_other_uids": {"*": Right((DONE,), "133", slices=133)},
    "dicom_split_keys": {
        "series_halves": Right(READ, "2/|57|56"),
        "unreadable_one": Right((*READ, *UNUSABLE)),  # root may read it
        "resent_* nearly_same": Right((DONE,), "dicom_copies", slices=113),
        "*": WHOLE,
    },
    "dicom_thick_and_thin": {"*": Right((*UNUSABLE, DOUBTED), "interpolat|distance")},
    "dicom_uids": {
        "copies_differ": Right((DOUBTED, *UNUSABLE), "10 places|10 doubled"),
        "two_patients_noid": Right(UNUSABLE, "interleave"),
        "two_patients*": Right(READ, slices=113, finds=("a", "b")),
        "cut_series": Right((DONE,), "best of 2", slices=113),
        "*": WHOLE,
    },
}  # fmt: skip
STUDIES = (
    *(Scans(script, _each(rights), layout="studies") for script, rights in _DICOM.items()),
    Scans("names", _each({
        "tables/sound": (DONE,),
        "dots/* tables/*": (USAGE,),
        "long/n* long/o*": (DONE, USAGE),
        "long bytes": (DONE, USAGE),
        "twins/same": ("failed_preparation_ambiguous",),
        "twins/Case": Right((DONE,), "case"),
        "*": (DONE,),
    }), layout="studies"),
    Scans("trees", _each({
        "bids": Right((DONE,), finds=("sub-01_ses-1", "sub-02_ses-1")),
        "verse": Right((DONE,), finds=("sub-verse501_dir-ax",)),
        "totalsegmentator": Right((DONE,), finds=("s0001", "s0002")),
        "nnunet": Right((DONE,), finds=("spine_001",)),
        "nested": Right((DONE,), finds=("a_b_c_scan", "d_scan")),
        "mixed": Right((DONE,), finds=("mixed", "patient2")),
        "*": Right((DONE,), finds=("s0001",)),
    }), layout="studies"),
)  # fmt: skip
STATES = (
    Commands(
        "nifti_extension",
        ("evaluate {out}/labels --truth {out}/truth --scheme totalsegmentator",),
        rights=(Ends((0,), r"1\.000|100"),),
    ),
    Commands(
        "evaluate_one_file_per_vertebra",
        ("evaluate {out}/results --truth {out}/truth --layout loose --scheme totalsegmentator",),
        rights=(Ends((0,), r"1\.000"),),
    ),
    Commands(
        "grid_tolerance", ("evaluate {out}/results --truth {out}/truth",),
        rights=(Ends((3,), "half"),),
    ),
    Commands(
        "truth_sets", ("evaluate {out}/results --truth {folder}",), "truth_*", (Ends((0, 3), "s1"),)
    ),
    Commands(
        "bundles", ("weights verify {folder} --stage spine_localization",), "*",
        (Ends((0,), case="big_endian"), Ends((0, 2, 3), case="extra_group"), Ends((2, 3))),
    ),
)  # fmt: skip
EVERYTHING: tuple[Scans | Commands, ...] = (
    *VALUES,
    *HEADERS,
    *PLACES,
    *FILES,
    *STUDIES,
    *STATES,
)
