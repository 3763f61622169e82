"""A BIDS derivatives data set of label maps.

CT of the body is no official BIDS raw modality yet (BEP024), so the derivatives stand alone:
`sub-<label>/anat/sub-<label>_space-orig_desc-vertebrae_dseg.nii.gz`, one lookup table for all.
VerSe centroid lists lie beside them and are named in `.bidsignore`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from payerseg.exports.case_result import CaseResult, TellFailed, each_case
from payerseg.exports.folders import bids_lookup_table, verse_centroids, write_json, write_text
from payerseg.version import __version__

BIDS_VERSION = "1.9.0"
_ENTITY = re.compile(r"(?P<key>sub|ses|acq|run)-(?P<value>[0-9A-Za-z]+)")
_ORDER = ("sub", "ses", "acq", "run")
_IGNORED = "*_ctd.json\n"
_README = """# payerseg

Label maps of vertebrae in CT, written by payerseg {version}.
`dseg.tsv` names the label values (VerSe numbering).
`*_ctd.json` are VerSe centroid lists: voxel indices of the label map beside them.
`participants.tsv` tells which case became which subject.
"""


def export_bids(
    cases: Iterable[CaseResult], folder: Path, tell_failed: TellFailed | None = None
) -> list[Path]:
    """Write the data set; go on past a case that cannot be written as `each_case` does.

    Returns:
        The written files.
    """
    written = [
        write_json(_description(), folder / "dataset_description.json"),
        write_text(bids_lookup_table(), folder / "dseg.tsv"),
        write_text(_IGNORED, folder / ".bidsignore"),
        write_text(_README.format(version=__version__), folder / "README.md"),
    ]
    taken: set[str] = set()
    participants: dict[str, list[str]] = {}

    def one(case: CaseResult) -> list[Path]:
        subject, stem = _place_of(case.case_id, taken)
        place = folder / f"sub-{subject}"
        place = next((place / e for e in stem.split("_") if e.startswith("ses-")), place) / "anat"
        name = f"{stem}_space-orig_desc-vertebrae"
        centroids = verse_centroids(case.landmarks, case.read_labels().grid)
        files = [
            case.copy_segmentation(place / f"{name}_dseg.nii.gz"),
            write_json(_sidecar(case), place / f"{name}_dseg.json"),
            write_json(centroids, place / f"{name}_ctd.json"),
        ]
        participants.setdefault(subject, []).append(case.case_id)
        return files

    written += each_case(cases, one, tell_failed)
    rows = [f"sub-{subject}\t{', '.join(ids)}" for subject, ids in sorted(participants.items())]
    table = "\n".join(["participant_id\tcase_id", *rows]) + "\n"
    notes = {"case_id": {"Description": "Case ids of payerseg that belong to this subject"}}
    written.append(write_text(table, folder / "participants.tsv"))
    written.append(write_json(notes, folder / "participants.json"))
    return written


def _place_of(case_id: str, taken: set[str]) -> tuple[str, str]:
    """Return the subject label and the file stem of a case; every stem is given once.

    BIDS entities in the case id are kept. Any other id loses what BIDS forbids in a label, and a
    number is added where two ids become one.
    """
    entities = {m["key"]: m["value"] for m in _ENTITY.finditer(case_id)}
    wanted = entities if "sub" in entities else {"sub": re.sub(r"[^0-9A-Za-z]", "", case_id) or "x"}
    varied = "run" if "sub" in entities else "sub"
    number, found = 1, dict(wanted)
    while (stem := _stem(found)) in taken:
        number += 1
        found[varied] = str(number) if varied == "run" else f"{wanted['sub']}{number}"
    taken.add(stem)
    return found["sub"], stem


def _stem(entities: dict[str, str]) -> str:
    return "_".join(f"{key}-{entities[key]}" for key in _ORDER if key in entities)


def _description() -> dict[str, object]:
    return {
        "Name": "payerseg vertebrae",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "payerseg", "Version": __version__}],
    }


def _sidecar(case: CaseResult) -> dict[str, object]:
    return {
        "Description": "Vertebrae on the grid of the source CT; values as in dseg.tsv",
        "SpatialReference": "the source CT, not transformed",
        "Manual": case.is_redrawn,
    }
