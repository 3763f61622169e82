"""From frames to volumes: group, split, sort along the normal; what is wrong with each is `checks` to say."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from payerseg.dicom.checks import Problem, check_geometry, check_kind
from payerseg.dicom.headers import SPLIT_TAGS, Frame
from payerseg.dicom.lattice import normal_of, positions_along
from payerseg.imaging.scan_record import Note

ORIENTATION_TOLERANCE = 2e-3
"""Largest difference of two direction cosines that count as one orientation (0.1 degrees)."""
SAME_PLACE_MM = 1e-3
MIN_SLICES = 3
_LOCALIZER = "LOCALIZER"


@dataclass(frozen=True, slots=True)
class FoundVolume:
    """Frames of one series that form one volume, or that should.

    Attributes:
        frames: sorted along their normal where they have a place, else as numbered.
        part: which volume of its series, from 1.
        n_parts: how many volumes the series holds.
        problem: why it cannot be used; None if it can.
        notes: what is unusual about it.
    """

    frames: tuple[Frame, ...]
    part: int = 1
    n_parts: int = 1
    problem: Problem | None = None
    notes: tuple[Note, ...] = ()

    @property
    def first(self) -> Frame:
        """What all frames share can be read from it."""
        return self.frames[0]

    @property
    def number(self) -> str:
        """The series number, with the part where there are several: "3", "3/2"; "?" without one."""
        number = "?" if self.first.series_number is None else str(self.first.series_number)
        return number if self.n_parts == 1 else f"{number}/{self.part}"

    @property
    def distance_mm(self) -> float:
        """Median distance of neighbouring slices, mm; the thickness where there are no positions."""
        if self.first.position_mm is None or self.first.orientation is None or len(self.frames) < 2:
            return self.first.thickness_mm
        return float(np.median(np.abs(np.diff(positions_along(self.frames)))))

    @property
    def is_original(self) -> bool:
        r"""Whether the scanner made it directly: ImageType ORIGINAL\PRIMARY."""
        return self.first.image_type[:2] == ("ORIGINAL", "PRIMARY")

    @property
    def tilt_to_axial_degrees(self) -> float:
        """Angle between the slices' normal and the long axis of the body."""
        if self.first.orientation is None:
            return 90.0
        return float(np.degrees(np.arccos(min(1.0, abs(normal_of(self.first)[2])))))

    @property
    def members(self) -> tuple[str, ...]:
        """The files it consists of, sorted."""
        return tuple(sorted({frame.member for frame in self.frames}))


@dataclass(slots=True)
class _Pile:
    """Frames on their way to a volume, and what was noticed on the way."""

    frames: list[Frame]
    notes: list[Note] = field(default_factory=list)
    problem: Problem | None = None


def find_volumes(frames: Iterable[Frame]) -> list[FoundVolume]:
    """Group frames into volumes.

    A series is split by size, spacing, orientation, frame of reference and kind; and where slices
    still lie on one another, by what tells acquisitions apart.

    Returns:
        Sorted by series number, then UID.
    """
    by_series: dict[str, list[Frame]] = defaultdict(list)
    for frame in frames:
        by_series[frame.series].append(frame)
    found = [volume for group in by_series.values() for volume in _volumes_of(group)]
    return sorted(found, key=_natural_order)


def _natural_order(volume: FoundVolume) -> tuple[bool, int, str, int]:
    number = volume.first.series_number
    return number is None, number or 0, volume.first.series, volume.part


def _volumes_of(series: list[Frame]) -> list[FoundVolume]:
    piles: list[_Pile] = []
    for group in _alike(series):
        if group[0].position_mm is None or group[0].orientation is None:
            piles.append(_Pile(sorted(group, key=lambda frame: frame.order)))
            continue
        piles += [part for pile in _by_orientation(group) for part in _untangle(pile)]
    piles.sort(key=lambda pile: (-len(pile.frames), pile.frames[0].order, pile.frames[0].member))
    found = []
    for part, pile in enumerate(piles, start=1):
        frames = tuple(pile.frames)
        problem = check_kind(frames) or pile.problem or check_geometry(frames)
        found.append(FoundVolume(frames, part, len(piles), problem, tuple(pile.notes)))
    return found


def _alike(series: list[Frame]) -> list[list[Frame]]:
    """Split by what can never vary inside a volume."""
    groups: dict[tuple[object, ...], list[Frame]] = defaultdict(list)
    for frame in series:
        spacing = frame.spacing_mm and tuple(round(value, 4) for value in frame.spacing_mm)
        key = (
            frame.study, frame.sop_class, frame.modality, frame.frame_of_reference, frame.rows,
            frame.columns, spacing, frame.pixels.samples, _LOCALIZER in frame.image_type,
            frame.position_mm is None or frame.orientation is None,
        )  # fmt: skip
        groups[key].append(frame)
    return list(groups.values())


def _by_orientation(group: list[Frame]) -> list[_Pile]:
    """Split by orientation; slices that fan out (scouts, radial and curved reformats) stay one pile."""
    piles: list[list[Frame]] = []
    known: dict[tuple[float, ...], list[Frame]] = {}
    for frame in group:
        cosines = frame.orientation or ()
        if cosines not in known:
            known[cosines] = next((pile for pile in piles if _parallel(pile[0], frame)), [])
            if not known[cosines]:
                piles.append(known[cosines])
        known[cosines].append(frame)
    whole = [_Pile(pile) for pile in piles if len(pile) >= MIN_SLICES]
    loose = [frame for pile in piles if len(pile) < MIN_SLICES for frame in pile]
    if len(piles) == 1:
        return [_Pile(piles[0])]
    if loose:
        loose.sort(key=lambda frame: frame.order)
        directions = sum(len(pile) < MIN_SLICES for pile in piles)
        message = (
            f"its {len(loose)} slices have {directions} orientations; expected parallel slices "
            "(is it a scout, or a radial or curved reformat?)"
        )
        whole.append(_Pile(loose, problem=Problem("bad_geometry", message)))
    return whole


def _parallel(one: Frame, other: Frame) -> bool:
    pairs = zip(one.orientation or (), other.orientation or (), strict=True)
    return max(abs(a - b) for a, b in pairs) <= ORIENTATION_TOLERANCE


def _untangle(pile: _Pile) -> list[_Pile]:
    """Sort a pile; drop copies of a slice; split acquisitions that share a place."""
    if pile.problem is not None:
        return [pile]
    frames = _sorted(pile.frames)
    once: dict[tuple[str, int | None], Frame] = {}
    for frame in frames:
        once.setdefault((frame.uid or frame.member, frame.index), frame)
    notes = list(pile.notes)
    if len(once) < len(frames):
        message = f"{len(frames) - len(once)} copies of slices were left out (same instance UID)"
        notes.append(Note("dicom_copies", message))
    frames = list(once.values())
    if not _has_shared_place(frames):
        return [_Pile(frames, notes)]
    split = _split_by_phase(frames) or _split_by_order(frames)
    if split is None:
        return [_Pile(frames, notes, _shared_place_problem(frames))]
    parts, what = split
    told = Note("dicom_split", f"the series holds {len(parts)} volumes, told apart by {what}")
    return [_Pile(part, [*notes, told]) for part in parts]


def _sorted(frames: Sequence[Frame]) -> list[Frame]:
    """Sort along the normal; names and instance numbers only decide where places are equal."""
    along = positions_along(frames)
    ties = [(frame.order, frame.member) for frame in frames]
    order = sorted(range(len(frames)), key=lambda k: (along[k], ties[k]))
    return [frames[k] for k in order]


def _has_shared_place(frames: Sequence[Frame]) -> bool:
    return len(frames) > 1 and bool(np.any(np.diff(positions_along(frames)) < SAME_PLACE_MM))


def _split_by_phase(frames: list[Frame]) -> tuple[list[list[Frame]], str] | None:
    """Split by the first tag that leaves no two slices of a part in one place."""
    for tag in SPLIT_TAGS:
        parts: dict[str, list[Frame]] = defaultdict(list)
        for frame in frames:
            parts[frame.phase.get(tag, "")].append(frame)
        if 1 < len(parts) <= len(frames) // MIN_SLICES and not any(
            _has_shared_place(part) for part in parts.values()
        ):
            return [parts[value] for value in sorted(parts)], tag
    return None


def _split_by_order(frames: list[Frame]) -> tuple[list[list[Frame]], str] | None:
    """Split by instance number where every place has the same number of slices."""
    places = np.concatenate([[0], np.cumsum(np.diff(positions_along(frames)) >= SAME_PLACE_MM)])
    counts = set(Counter(places.tolist()).values())
    if len(counts) != 1 or places[-1] + 1 < MIN_SLICES:
        return None
    n_parts = counts.pop()
    numbers = [frame.order for frame in frames]
    if len(set(numbers)) < len(numbers):
        return None
    parts = [
        [frames[k * n_parts + part] for k in range(int(places[-1]) + 1)] for part in range(n_parts)
    ]
    return parts, "the order of instance numbers"


def _shared_place_problem(frames: Sequence[Frame]) -> Problem:
    along = positions_along(frames)
    shared = along[1:][np.diff(along) < SAME_PLACE_MM]
    message = (
        f"{len(shared)} of {len(frames)} slices lie where another does (first at {shared[0]:.2f} mm along "
        "the normal) and nothing in the headers tells them apart; export one acquisition"
    )
    return Problem("bad_geometry", message)
