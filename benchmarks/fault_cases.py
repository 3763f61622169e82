"""What is right for every input of `shared/cases`, declared; `faults.py` makes the inputs and runs them.

A script of that folder is `python NAME.py OUT`; its docstring says what is unusual and what is right.
Statuses are patterns of `fnmatch`; the first expectation whose `case` fits counts.
"""

from __future__ import annotations

from dataclasses import dataclass, field

OK, REVIEW, NO_SPINE = "ok", "ok_needs_review", "no_spine"
NAMED = (OK, REVIEW)
DONE, DOUBTED = "done_to_preparation", "done_to_preparation_needs_review"
READ = (DONE, DOUBTED)
REFUSED = ("failed_preparation_*",)
NO_CRASH = (0, 2, 3)


@dataclass(frozen=True, slots=True)
class Right:
    """What is right for a case.

    Attributes:
        statuses: patterns of `status`.
        says: what the message must hold, a regular expression.
        case: pattern of the case id, or of the study's folder.
        slices: of the prepared CT; 0 = not asked.
    """

    statuses: tuple[str, ...]
    says: str = ""
    case: str = "*"
    slices: int = 0


@dataclass(frozen=True, slots=True)
class Scans:
    """Scans that go through `payerseg run`.

    Attributes:
        script: of `shared/cases`.
        rights: the first that fits a case counts.
        folder: below OUT, where the scans lie.
        to_preparation: only stage 0 is asked for; else names of an `ok` are held against the truth.
        studies: every folder is a run of its own (DICOM).
        arguments: of the script, after OUT; "{data}" is the folder of shared data.
        alias: prefix of the cases, where a script is used twice.
    """

    script: str
    rights: tuple[Right, ...]
    folder: str = ""
    to_preparation: bool = False
    studies: bool = False
    arguments: tuple[str, ...] = ()
    alias: str = ""


@dataclass(frozen=True, slots=True)
class Commands:
    """Commands of which none may crash.

    Attributes:
        script: of `shared/cases`.
        commands: words after `payerseg`; "{out}" is the script's OUT, "{folder}" each match of `each`,
            "{work}" a fresh folder, "{results}" finished results, "{case}" their first case.
        each: a pattern below OUT; the commands run for each match.
        codes: exit codes that are right.
        says: what the output must hold, by pattern of the folder's name.
        of_results: OUT is finished results, and the damaged copies lie beside it.
    """

    script: str
    commands: tuple[str, ...]
    each: str = ""
    codes: tuple[int, ...] = NO_CRASH
    says: dict[str, str] = field(default_factory=dict)
    of_results: bool = False


def scan(script: str, *statuses: str, says: str = "", **more: str) -> Scans:
    """Return a script that writes one scan, or several of which the same is right."""
    return Scans(script, (Right(statuses, says),), **more)


VALUES = (
    scan("background_zero", *NAMED),
    scan("cement", *NAMED),
    scan("cone_beam_like", *NAMED),
    scan("half_scale_values", *REFUSED, REVIEW, says="half|Hounsfield"),
    scan("inverted_values", "failed_preparation_not_hounsfield"),
    scan("low_dose_noise", *NAMED),
    scan("metal", *NAMED),
    scan("mr_like", "failed_preparation_not_hounsfield", NO_SPINE, REVIEW),
    scan("offset_lost_noisy_air", *NAMED, "failed_preparation_not_hounsfield"),
    scan("offset_lost_round_field", *NAMED),
    scan("offset_lost_then_resampled", *NAMED, "failed_preparation_not_hounsfield"),
    scan("screenshot_bytes", "failed_preparation_not_hounsfield", says="picture"),
    scan("window_clipped", *REFUSED, REVIEW, says="window"),
)
HEADERS = (
    scan("header_turned_decubitus", *NAMED),
    scan(
        "header_turned_decubitus", *NAMED, alias="aorta-",
        arguments=("--ct", "{data}/ct/ts_aorta_example.nii.gz"),
    ),
    scan("header_turned_prone", REVIEW, says="turned|exchanged"),
    scan("header_upside_down", REVIEW, says="upside down"),
    scan(
        "header_upside_down", REVIEW, says="upside down", alias="thorax-",
        arguments=("--ct", "{data}/ct/sts_037.nii.gz"),
    ),
    scan("last_axis_of_one", *NAMED),
    scan("mouse_sized", *REFUSED, NO_SPINE, REVIEW),
    scan("no_codes_lps_data", REVIEW, says="orientation"),
    scan("pixel_stack_identity_matrix", *REFUSED, REVIEW, says="unit matrix"),
    scan("rotated_with_zero_fill", *NAMED),
    scan("sform_from_slice_thickness", *NAMED, says="contradicts|^$"),
)  # fmt: skip
PLACES = (
    scan("crushed_vertebrae", *NAMED),
    Scans("few_slices", (Right(("failed_preparation_not_3d",), case="*_1"),
                         Right(("failed_preparation_bad_geometry",)))),
    scan("fused_discs", *NAMED),
    scan("slices_blank_band", REVIEW, says="blank"),
    scan("slices_far_apart", *NAMED),
    scan("slices_missing_restacked", REVIEW, says="jump"),
    scan("slices_odd_then_even", *REFUSED, REVIEW),
    scan("spine_at_the_edge", *NAMED),
    scan("two_table_stops_overlap", REVIEW),
)  # fmt: skip
FILES = (
    Scans("nifti_headers", (
        Right(REFUSED, case="cut_*"),
        *(Right((f"failed_preparation_{kind}",), case=case) for case, kind in {
            "time_2": "not_3d", "rgb": "not_3d", "complex": "not_3d", "one_slice": "not_3d",
            "two_slices": "bad_geometry", "spacing_*": "bad_geometry", "gz_crc": "unreadable",
            "plain_cut": "unreadable", "empty": "unreadable", "hdr_magic": "unreadable",
        }.items() if case != "spacing_*"),
        *(Right(("failed_preparation_bad_geometry",), case=f"spacing_{n}") for n in ("0", "1e9", "micro")),
        *(Right(REFUSED, case=case) for case in ("dim_*", "dim0_wrong", "inter_nan")),
        Right((DOUBTED,), "orientation", "no_form"),
        Right((DOUBTED, "failed_preparation_bad_geometry"), case="shear_flat"),
        Right((DOUBTED, "failed_preparation_unreadable"), case="slope_inf"),
        Right((DONE, "failed_preparation_not_hounsfield"), case="constant"),
        Right((DONE, "failed_preparation_*"), case="uint16_raw"),
        Right((DONE, DOUBTED), case="int8"),
        Right((DONE,)),
    ), to_preparation=True),
    Scans("nifti_extension", (Right((DONE,)),), "ct", to_preparation=True),
    Scans("itk_files", (
        Right((DONE,), case="sound"), Right((DONE,), case="latin1"),
        Right((DONE, *REFUSED), case="long_line"),
        Right((DONE, *REFUSED), case="closed*"),  # root may read all; three of them share one id
        Right(("failed_preparation_bad_geometry",), case="*_spacing"),
        Right(("failed_preparation_bad_geometry", "failed_preparation_unreadable"), case="big_claim"),
        Right(("failed_preparation_unreadable",)),
    ), "in", to_preparation=True),
)  # fmt: skip
STUDIES = tuple(
    Scans(script, rights, to_preparation=True, studies=True)
    for script, rights in {
        "dicom_acquisitions": (
            Right((DOUBTED,), case="shared_differs", slices=113),
            Right((*READ, "failed_preparation_bad_geometry"), case="gap"),
            Right(READ, slices=113),
        ),
        "dicom_bolus_slices_inside": (Right(READ),),
        "dicom_bolus_slices_one_acquisition": (Right(READ),),
        "dicom_gantry_tilt": (Right(READ),),
        "dicom_headers": (
            *(
                Right(("failed_*", "exit *"), case=case)
                for case in ("no_spacing", "rescale_text", "no_position")
            ),
            Right(("failed_*", "exit *", DOUBTED), case="uneven"),
            Right(READ, slices=113),
        ),
        "dicom_monochrome1": (Right(READ),),
        "dicom_no_positions": (Right(("failed_*", "exit *"), "Position"),),
        "dicom_one_slice_of_other_plane": (Right(READ),),
        "dicom_packed": (
            Right(("failed_*", "exit *"), case="truncated"),
            Right(READ),
        ),
        "dicom_same_slices_other_uids": (Right(READ),),
        "dicom_split_keys": (
            *(Right((*READ, "failed_*"), case=case) for case in ("series_halves", "unreadable_one")),
            Right((DONE, DOUBTED), slices=113),
        ),
        "dicom_thick_and_thin": (Right(("failed_*", "exit *", DOUBTED)),),
        "dicom_uids": (
            Right((DOUBTED, "failed_*", "exit *"), case="copies_differ"),
            Right((*READ, "failed_*", "exit *"), case="two_patients*"),
            Right(READ, slices=113),
        ),
    }.items()
)  # fmt: skip
STATES = (
    Commands(
        "nifti_extension",
        ("evaluate {out}/labels --truth {out}/truth --scheme totalsegmentator",),
        codes=(0,), says={"*": r"1\.000|100"},
    ),
    Commands(
        "evaluate_one_file_per_vertebra",
        ("evaluate {out}/results --truth {out}/truth --layout loose --scheme totalsegmentator",),
        says={"*": r"1\.000|one label map"},
    ),
    Commands("grid_tolerance", ("evaluate {out}/results --truth {out}/truth",), codes=(0, 3)),
    Commands("truth_sets", ("evaluate {out}/results --truth {folder}",), "truth_*", (0, 3)),
    Commands("names", ("run {folder} -o {work} --to-stage preparation",), "*"),
    Commands("trees", ("run {folder} -o {work} --dry-run",), "*"),
    Commands("bundles", ("weights verify {folder} --stage spine_localization",), "*"),
    Commands(
        "landmark_edits",
        ("stage vertebrae_segmentation {folder} --only-case {case} --then-later",),
        "csv_*", of_results=True,
    ),
    Commands(
        "damaged_state",
        (
            "status {folder}", "run {inputs} -o {folder} --dry-run", "report {folder}",
            "export {folder} --to flat -o {work}", "evaluate {folder} --truth {truth}",
        ),
        "*", of_results=True,
    ),
)  # fmt: skip
EVERYTHING: tuple[Scans | Commands, ...] = (*VALUES, *HEADERS, *PLACES, *FILES, *STUDIES, *STATES)
