"""Which volume of a study is segmented: by rule, or as the user says. Every verdict has its reason.

What the rule leaves out of the body is counted: no half of a scan goes missing without a word.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from payerseg.dicom.geometry import normal_of, positions_along, positions_mm
from payerseg.dicom.volumes import FoundVolume
from payerseg.imaging.scan_record import Note

BEST, ALL = "best", "all"
TRANSVERSE_DEGREES = 40.0
PARALLEL = 0.98
"""Least cosine between the normals of two volumes that look along one axis (10 degrees)."""
FURTHER_MM, NEIGHBOUR_MM = 20.0, 10.0
"""Another series is named in a review where it shows so much more of the body (about a vertebra), and
begins no further away than this."""


class Choice(StrEnum):
    """What happens with a volume."""

    CHOSEN = "chosen"
    REFUSED = "refused"  # wanted, but unusable: a failed case
    LEFT = "left"  # not wanted


@dataclass(frozen=True, slots=True)
class Decision:
    """One volume, what happens with it, and why; notes say what else of its study was left out."""

    volume: FoundVolume
    choice: Choice
    reason: str
    notes: tuple[Note, ...] = ()


def decide(
    volumes: Iterable[FoundVolume], wanted: str = BEST, *, fill_gaps: bool = False
) -> list[Decision]:
    r"""Decide about every volume.

    The rule, for each study of each patient: usable ones first; of these the scanner's own
    (ORIGINAL\PRIMARY) before derived ones; transverse before other orientations; most slices; thinnest;
    lowest series number.

    Args:
        volumes: of any number of studies.
        wanted: "best" (one per study), "all" usable ones, or which series: its number ("3", "3/2" for
            the second volume of series 3), its UID, or a part of its description. By number or
            description, the rule chooses among those of a study that match.
        fill_gaps: missing slices are no obstacle.

    Returns:
        In the order given. A study without a usable CT has its best candidate refused.
    """
    volumes = list(volumes)
    studies: dict[tuple[str, str], list[FoundVolume]] = defaultdict(list)
    for volume in volumes:
        studies[volume.first.patient, volume.first.study].append(volume)
    verdicts: dict[int, Decision] = {}
    for study in studies.values():
        for decision in _decide_study(study, wanted.strip(), fill_gaps=fill_gaps):
            verdicts[id(decision.volume)] = decision
    decisions = [verdicts[id(volume)] for volume in volumes]
    asked = wanted.strip().lower() not in (BEST, ALL)
    return [_counted(decision, decisions, asked=asked) for decision in decisions]


def obstacle(volume: FoundVolume, *, fill_gaps: bool) -> str | None:
    """Return why a volume cannot be used; None if it can."""
    problem = volume.problem
    if problem is None or (problem.fillable and fill_gaps):
        return None
    return problem.message


def describe(volume: FoundVolume) -> str:
    """Say in a few words what a volume is; nothing of it is free text of a header."""
    kind = "original" if volume.is_original else "derived"
    plane = "transverse" if _is_transverse(volume) else "not transverse"
    return (
        f"series {volume.number}: {kind}, {plane}, {len(volume.frames)} slices of "
        f"{volume.distance_mm:.3g} mm"
    )


def _decide_study(study: Sequence[FoundVolume], wanted: str, *, fill_gaps: bool) -> list[Decision]:
    matching = [volume for volume in study if matches(volume, wanted)]
    ranked = sorted(matching, key=lambda volume: _rank(volume, fill_gaps=fill_gaps))
    usable = [volume for volume in ranked if obstacle(volume, fill_gaps=fill_gaps) is None]
    asked = wanted.lower() not in (BEST, ALL)
    decisions = [
        Decision(volume, Choice.LEFT, f"--series {wanted} is another one")
        for volume in study
        if volume not in matching
    ]
    if wanted.lower() == ALL:
        decisions += [Decision(volume, Choice.CHOSEN, "all were asked for") for volume in usable]
    elif usable:
        decisions.append(Decision(usable[0], Choice.CHOSEN, _why_best(usable, asked=asked)))
        decisions += [Decision(v, Choice.LEFT, _why_not(usable[0], v)) for v in usable[1:]]
    unusable = [volume for volume in ranked if volume not in usable]
    for volume in unusable:
        # A CT that fails is a failed case where nothing stands for it; a scout beside a CT is not.
        is_ct = volume.problem is not None and volume.problem.kind != "not_ct"
        meant = asked or volume.first.modality == "CT"
        alone = not any(_same_series(volume, other) for other in usable)
        failed = (wanted.lower() == ALL and is_ct and alone) or (
            not usable and meant and volume is ranked[0]
        )
        choice = Choice.REFUSED if failed else Choice.LEFT
        decisions.append(Decision(volume, choice, obstacle(volume, fill_gaps=fill_gaps) or ""))
    return decisions


def matches(volume: FoundVolume, wanted: str) -> bool:
    """Tell whether a volume is what the user asked for; "best" and "all" are any."""
    if wanted.lower() in (BEST, ALL, ""):
        return True
    number, _, _ = volume.number.partition("/")
    if wanted in (volume.number, number, volume.first.series):
        return True
    is_number = wanted.replace("/", "").isdigit()
    return not is_number and wanted.lower() in volume.first.description.lower()


def _counted(decision: Decision, decisions: Sequence[Decision], *, asked: bool) -> Decision:
    """Note on a chosen volume what was left out of its own series, and where others of its study go on.

    Who asked for a series by name knows that others are left out.
    """
    if decision.choice is not Choice.CHOSEN:
        return decision
    volume = decision.volume
    others = [d for d in decisions if d.choice is not Choice.CHOSEN]
    notes: list[Note] = []
    for other in (d for d in others if _same_series(d.volume, volume)):
        notes += _left_of_series(volume, other)
    if not asked:
        notes += [
            note
            for other in others
            if not _same_series(other.volume, volume)
            for note in _goes_on(volume, other.volume)
        ]
    return replace(decision, notes=tuple(notes))


def _left_of_series(volume: FoundVolume, other: Decision) -> list[Note]:
    """Tell which slices of the volume's own series are not in it, and whether a person must look."""
    found, count = other.volume, len(other.volume.frames)
    why = f"series {found.number}: {other.reason}"
    if found.first.is_localizer or not _look_along_one_axis(volume, found):
        message = f"{count} images of the series were left out ({why})"
        return [Note("dicom_left_aside", message)]
    beyond_mm = _reach(volume, found)
    outside = sum(beyond_mm > 0.5 * volume.distance_mm)
    if outside or found.problem is not None:
        place = f"{outside} of them beyond those used" if outside else "among those used"
        message = f"{count} slices of the series were left out, {place} ({why})"
        return [Note("dicom_left_out", message, review=True)]
    return []  # another phase or kernel of the same region; the reason of the choice names it


def _goes_on(volume: FoundVolume, other: FoundVolume) -> list[Note]:
    """Tell where another series of the study shows the next part of the body."""
    one, two = volume.first, other.first
    same = (one.patient, one.study, one.frame_of_reference) == (
        two.patient, two.study, two.frame_of_reference,
    )  # fmt: skip
    if other.problem is not None or not same or not _look_along_one_axis(volume, other):
        return []
    beyond_mm = _reach(volume, other)
    further = beyond_mm[beyond_mm > 0.5 * volume.distance_mm]
    near = NEIGHBOUR_MM + volume.distance_mm + other.distance_mm
    if not len(further) or max(further) < FURTHER_MM or min(further) > near:
        return []
    message = (
        f"{len(further)} slices of series {other.number} were left out; they show {max(further):.0f} mm "
        "more of the body beyond the volume used (--series all takes both)"
    )
    return [Note("dicom_left_out", message, review=True)]


def _reach(volume: FoundVolume, other: FoundVolume) -> np.ndarray:
    """Return how far each slice of another volume lies beyond this one's ends, mm along its normal."""
    own = positions_along(volume.frames)
    places = positions_mm(other.frames) @ normal_of(volume.first)
    return np.maximum(own.min() - places, places - own.max())


def _look_along_one_axis(volume: FoundVolume, other: FoundVolume) -> bool:
    if not other.first.has_place:
        return False
    normal = normal_of(volume.first)
    return all(abs(normal_of(frame) @ normal) >= PARALLEL for frame in other.frames)


def _same_series(one: FoundVolume, other: FoundVolume) -> bool:
    return (one.first.patient, one.first.series) == (other.first.patient, other.first.series)


def _is_transverse(volume: FoundVolume) -> bool:
    return volume.tilt_to_axial_degrees <= TRANSVERSE_DEGREES


def _rank(volume: FoundVolume, *, fill_gaps: bool) -> tuple[object, ...]:
    """Return a key by which the best comes first."""
    blocked = obstacle(volume, fill_gaps=fill_gaps) is not None
    not_ct = volume.problem is not None and volume.problem.kind == "not_ct"
    derived = 0 if volume.is_original else 1 if not volume.first.image_type else 2
    number = volume.first.series_number
    return (
        blocked, not_ct, derived, not _is_transverse(volume), -len(volume.frames),
        round(volume.distance_mm, 3), number is None, number or 0, volume.part, volume.first.series,
    )  # fmt: skip


def _why_best(usable: Sequence[FoundVolume], *, asked: bool) -> str:
    if asked:
        return "asked for" if len(usable) == 1 else "asked for, and the best of those that match"
    if len(usable) == 1:
        return f"the only usable CT volume ({describe(usable[0])})"
    return f"the best of {len(usable)} usable CT volumes ({describe(usable[0])})"


def _why_not(best: FoundVolume, other: FoundVolume) -> str:
    """Name the first point of the rule in which a volume is behind the best."""
    chosen = f"series {best.number}"
    if best.is_original and not other.is_original:
        return f"derived; {chosen} is original"
    if _is_transverse(best) and not _is_transverse(other):
        return f"not transverse; {chosen} is"
    if len(best.frames) != len(other.frames):
        return f"{len(other.frames)} slices; {chosen} has {len(best.frames)}"
    if round(best.distance_mm, 3) != round(other.distance_mm, 3):
        return f"slices of {other.distance_mm:.3g} mm; {chosen} has {best.distance_mm:.3g} mm"
    return f"as good as {chosen}, which has the lower number"
