"""Self-made masks: keep of a run's results what agrees with what is known, as a data set to train on.

Few scans have masks; many have positions, or nothing. The pipeline segments them, this module keeps
single vertebrae whose mask is whole, sure, bony, as large as its neighbours' and where the known
position says, and training goes on with them.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from payerseg.atomic import write_text
from payerseg.datasets.cases import CaseFiles, Dataset, TrainingCase
from payerseg.datasets.discover import DEFAULT_RULES, ReadingRules, read_case
from payerseg.datasets.layouts import CASE_FACTS, without_ending
from payerseg.domain.landmarks import Landmarks
from payerseg.domain.vertebra import Vertebra
from payerseg.domain.volume import Volume
from payerseg.errors import DatasetError, GridMismatch, PayersegError
from payerseg.imaging.files import read_volume, write_volume
from payerseg.results.artifacts import LANDMARKS_CSV, MASK_REPORT, SEGMENTATION
from payerseg.results.case_folder import CaseFolder
from payerseg.results.fingerprint import HashMemo
from payerseg.results.formats import read_artifact
from payerseg.stagekit.case_state import current_result

SHELL_VOXELS = 3
NOTE = "masks made by payerseg, kept by `payerseg train adopt`"


@dataclass(frozen=True, slots=True)
class AdoptionRule:
    """What a self-made mask must be.

    Attributes:
        near_mm: its landmark at most this far from the known position.
        min_probability: the network's mean over the mask.
        max_dropped, max_lost: parts of the mask that lay apart or that neighbours took.
        min_contrast_hu: median inside above the median of a shell around it; bone is denser than
            what surrounds it, whatever the scanner.
        max_size_ratio: between the volumes of neighbours.
    """

    near_mm: float = 6.0
    min_probability: float = 0.88
    max_dropped: float = 0.1
    max_lost: float = 0.08
    min_contrast_hu: float = 60.0
    max_size_ratio: float = 1.6


@dataclass(frozen=True, slots=True)
class Adopted:
    """What became of one case.

    Attributes:
        case_id: of the data set.
        kept: vertebrae whose mask was kept.
        refused: vertebra → why not.
        reason: why the whole case was left out; "" where something was kept.
    """

    case_id: str
    kept: tuple[Vertebra, ...] = ()
    refused: Mapping[Vertebra, str] | None = None
    reason: str = ""


def adopt_results(
    dataset: Dataset,
    results: Path,
    out: Path,
    rule: AdoptionRule | None = None,
    rules: ReadingRules = DEFAULT_RULES,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[Adopted]:
    """Write a data set of the masks worth keeping.

    Args:
        dataset: whose scans were segmented; cases of its validation or test split are left out.
        results: output folder of `payerseg run` over these scans, with every found position looked
            at or not; an edited landmarks.csv counts as it stands.
        out: folder to write: images/, landmarks/, segmentations/, cases.json.
        rule: left out = the defaults.
        rules: how the data set's marks are read.
        progress: told (done, total, case_id) after each case.

    Returns:
        What became of each case that has results.

    Raises:
        DatasetError: no case of the data set has results.
    """
    rule = rule or AdoptionRule()
    wanted = [files for files in dataset.cases if (results / files.case_id).is_dir()]
    if not wanted:
        msg = (
            f"{results} holds no folder named as a case of {dataset.root}; run payerseg on it first"
        )
        raise DatasetError(msg)
    outcomes, facts = [], {}
    for done, files in enumerate(wanted, start=1):
        try:
            outcome = _adopt_case(files, CaseFolder(results / files.case_id, files.case_id),
                                  out, rule, rules)  # fmt: skip
        except PayersegError as error:
            outcome = Adopted(files.case_id, reason=str(error))
        outcomes.append(outcome)
        if outcome.kept:
            facts[files.case_id] = _facts(files)
            _write_facts(out, facts)
        if progress:
            progress(done, len(wanted), files.case_id)
    return outcomes


def _adopt_case(
    files: CaseFiles, folder: CaseFolder, out: Path, rule: AdoptionRule, rules: ReadingRules
) -> Adopted:
    if files.split in ("val", "test"):
        return Adopted(files.case_id, reason=f"a {files.split} case must not teach")
    current = current_result(folder, HashMemo())
    status = current.summary.status or "not known"
    if current.refusal():
        return Adopted(files.case_id, reason=current.refusal())
    case = read_case(files, rules)
    if case.landmarks is None and status != "ok":
        return Adopted(files.case_id, reason=f"no known positions, and its status is {status}")
    table, masks = folder.path(LANDMARKS_CSV), folder.path(SEGMENTATION)
    if not current.has(LANDMARKS_CSV) or not current.has(SEGMENTATION):
        return Adopted(files.case_id, reason=f"no masks; its status is {status}")
    found = read_artifact(LANDMARKS_CSV, table)
    labels, ct = read_volume(masks), read_volume(case.image)
    if not labels.grid.same_space_as(ct.grid):
        msg = f"{masks} and {case.image} do not share a grid; the results are of another scan"
        raise GridMismatch(msg)
    record = read_artifact(MASK_REPORT, folder.path(MASK_REPORT))
    refused = dict(refusals(case, found, record, rule))
    candidates = [v for v in found if v not in refused]
    refused |= dict(image_refusals(ct, labels, candidates, rule))
    kept = tuple(v for v in found if v not in refused)
    if not kept:
        return Adopted(files.case_id, refused=refused, reason="no mask passed")
    values = [v.verse_label for v in kept]
    chosen = np.where(np.isin(labels.array, values), labels.array, 0).astype(np.uint8)
    _write_case(out, case, case.landmarks or found, labels.with_array(chosen))
    return Adopted(files.case_id, kept, refused)


def refusals(
    case: TrainingCase, found: Landmarks, record: Mapping[str, Any], rule: AdoptionRule
) -> Iterator[tuple[Vertebra, str]]:
    """Yield the vertebrae that the record or the known positions speak against, with the reason.

    Args:
        case: its landmarks are the known positions; None = there are none to compare with.
        found: the pipeline's.
        record: masks.json.
        rule: limits.
    """
    volumes = {v: float(record.get(v.name, {}).get("volume_ml", 0)) for v in found}
    for vertebra, mark in found.items():
        entry = record.get(vertebra.name)
        doubt = "no mask" if entry is None else _doubt_of_record(entry, rule)
        if not doubt and case.landmarks is not None:
            known = case.landmarks.get(vertebra)
            if known is None:
                doubt = "no known position"
            else:
                off_mm = float(np.linalg.norm(np.subtract(known.position_mm, mark.position_mm)))
                doubt = f"{off_mm:.1f} mm from the known position" if off_mm > rule.near_mm else ""
        doubt = doubt or _doubt_of_size(vertebra, volumes, rule)
        if doubt:
            yield vertebra, doubt


def image_refusals(
    ct: Volume, labels: Volume, vertebrae: list[Vertebra], rule: AdoptionRule
) -> Iterator[tuple[Vertebra, str]]:
    """Yield the vertebrae whose mask a face of the scan cuts or that is no denser than its shell."""
    boxes = ndimage.find_objects(labels.array.astype(np.uint8))
    for vertebra in vertebrae:
        value = vertebra.verse_label
        box = boxes[value - 1] if value <= len(boxes) else None
        if box is None:
            yield vertebra, "no mask"
            continue
        if any(s.start == 0 or s.stop == n for s, n in zip(box, labels.array.shape, strict=True)):
            yield vertebra, "cut by a face of the scan"
            continue
        block = tuple(slice(max(s.start - 4, 0), s.stop + 4) for s in box)
        near = labels.array[block]
        inside = near == value
        shell = ndimage.binary_dilation(inside, iterations=SHELL_VOXELS) & (near == 0)
        hu = ct.array[block]
        contrast = float(np.median(hu[inside]) - np.median(hu[shell])) if shell.any() else 0.0
        if contrast < rule.min_contrast_hu:
            yield vertebra, f"only {contrast:.0f} HU denser than its surroundings"


def _doubt_of_record(entry: Mapping[str, Any], rule: AdoptionRule) -> str:
    if entry["problems"]:
        return "; ".join(entry["problems"])
    if entry["mean_probability"] < rule.min_probability:
        return f"mean probability {entry['mean_probability']:.2f}"
    if entry["dropped_part"] > rule.max_dropped:
        return f"{entry['dropped_part']:.0%} of the mask lay apart"
    if entry["lost_part"] > rule.max_lost:
        return f"{entry['lost_part']:.0%} of the mask went to its neighbours"
    return ""


def _doubt_of_size(
    vertebra: Vertebra, volumes: Mapping[Vertebra, float], rule: AdoptionRule
) -> str:
    """Compare with the median of the two levels on either side: sizes change slowly along the spine."""
    if vertebra in (Vertebra.C1, Vertebra.C2):
        return ""  # their shapes are their own
    order = sorted(volumes)
    place = order.index(vertebra)
    near = [volumes[v] for v in order[max(place - 2, 0) : place + 3]
            if v not in (vertebra, Vertebra.C1, Vertebra.C2) and volumes[v] > 0]  # fmt: skip
    if not near:
        return ""
    ratio = volumes[vertebra] / float(np.median(near))
    if 1 / rule.max_size_ratio <= ratio <= rule.max_size_ratio:
        return ""
    return f"{ratio:.2f} times the volume of its neighbours"


def _facts(files: CaseFiles) -> dict[str, Any]:
    facts: dict[str, Any] = {"patient": files.patient_id, "note": NOTE}
    facts |= {"source": files.source, "licence": files.licence}
    if files.partial is not None:
        facts["partial"] = [v.name for v in files.partial]
    return facts


def _write_facts(out: Path, facts: Mapping[str, Any]) -> None:
    """Write the table again after every case, so that a killed run leaves a usable data set."""
    write_text(out / CASE_FACTS, json.dumps(facts, indent=1, sort_keys=True))


def _write_case(out: Path, case: TrainingCase, landmarks: Landmarks, labels: Volume) -> None:
    for part in ("images", "landmarks", "segmentations"):
        (out / part).mkdir(parents=True, exist_ok=True)
    name = case.image.name
    ending = name.removeprefix(without_ending(name) or "")
    image = out / "images" / f"{case.case_id}{ending}"
    shutil.copyfile(case.image, image)
    write_volume(labels, out / "segmentations" / f"{case.case_id}_seg.nii.gz")
    with (out / "landmarks" / f"{case.case_id}.csv").open(
        "w", newline="", encoding="utf-8"
    ) as file:
        rows = csv.writer(file)
        rows.writerow(["label", "X", "Y", "Z"])
        for vertebra, mark in landmarks.items():
            rows.writerow([vertebra.verse_label, *(f"{v:.3f}" for v in mark.position_mm)])
