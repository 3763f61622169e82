"""Which volume of a study is segmented: by rule, or as the user says. Every verdict has its reason."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from payerseg.dicom.volumes import FoundVolume

BEST, ALL = "best", "all"
TRANSVERSE_DEGREES = 40.0


class Choice(StrEnum):
    """What happens with a volume."""

    CHOSEN = "chosen"
    REFUSED = "refused"  # wanted, but unusable: a failed case
    LEFT = "left"  # not wanted


@dataclass(frozen=True, slots=True)
class Decision:
    """One volume, what happens with it, and why."""

    volume: FoundVolume
    choice: Choice
    reason: str


def decide(
    volumes: Iterable[FoundVolume], wanted: str = BEST, *, fill_gaps: bool = False
) -> list[Decision]:
    r"""Decide about every volume.

    The rule, for each study: usable ones first; of these the scanner's own (ORIGINAL\PRIMARY) before
    derived ones; transverse before other orientations; most slices; thinnest; lowest series number.

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
    studies: dict[str, list[FoundVolume]] = defaultdict(list)
    for volume in volumes:
        studies[volume.first.study].append(volume)
    verdicts: dict[int, Decision] = {}
    for study in studies.values():
        for decision in _decide_study(study, wanted.strip(), fill_gaps=fill_gaps):
            verdicts[id(decision.volume)] = decision
    return [verdicts[id(volume)] for volume in volumes]


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
        failed = (wanted.lower() == ALL and is_ct) or (not usable and meant and volume is ranked[0])
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
