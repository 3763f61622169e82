"""Which slices make a volume: the one place that groups, joins, splits and leaves out.

A series is first divided by what never varies inside a volume (patient, size, spacing, orientation,
kind). Of the parallel slices that remain

1. copies are left out: same place, same pixels, same kernel, whatever their UIDs say;
2. if every place is then held once, and the slices lie evenly, they are one volume, whatever other
   tags say: scanners and archives store one run in parts;
3. else the first header tag is looked for that divides them into whole volumes with no place lost;
   of these parts, those that adjoin are joined again, doubled slices used once;
4. else, where few places are doubled, one slice of each is used, and it is told.

What is wrong with a volume is `geometry` to say.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from operator import itemgetter

import numpy as np

from payerseg.dicom.geometry import (
    MIN_SLICES,
    Problem,
    check_geometry,
    check_kind,
    normal_of,
    positions_along,
    positions_mm,
)
from payerseg.dicom.headers import SPLIT_TAGS, Frame
from payerseg.imaging.continuity import MIN_RUN, interleaves
from payerseg.imaging.scan_record import Note

Values = Callable[[Frame], np.ndarray | None]
"""Returns the Hounsfield units of a frame, (row, column); None where they cannot be decoded."""
ORIENTATION_TOLERANCE = 5e-3
"""Largest difference of two direction cosines that count as one orientation (0.3 degrees)."""
SPACING_TOLERANCE = 1e-3
"""Pixel spacings that differ by less than this part are one: half a pixel over 512."""
SAME_PLACE_MM = 0.02
"""Slices nearer than this, or than a tenth of a pixel, lie in one place."""
MAX_IN_TURN = 4
MAX_DOUBLED = 0.5
"""Part of the places that two stacks may share and still be neighbours, not two scans of one region."""


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
        if not self.first.has_place or len(self.frames) < 2:
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


@dataclass(frozen=True, slots=True)
class _Pile:
    """Parallel slices on their way to a volume.

    Attributes:
        frames: sorted along the normal.
        notes: what was noticed.
        problem: why they are no volume.
        is_mixed: they may be several volumes: places are held twice, or the slices do not lie evenly.
    """

    frames: list[Frame]
    notes: tuple[Note, ...] = ()
    problem: Problem | None = None
    is_mixed: bool = False


def find_volumes(frames: Iterable[Frame], values: Values = lambda _: None) -> list[FoundVolume]:
    """Group frames into volumes.

    Args:
        frames: of any number of series and patients.
        values: of a frame; asked only where slices share a place or take turns. Slices whose values
            are not known are never copies.

    Returns:
        Sorted by series number, then UID.
    """
    by_series: dict[str, list[Frame]] = defaultdict(list)
    for frame in frames:
        by_series[frame.series].append(frame)
    pixels = _Pixels(values)
    found = [volume for group in by_series.values() for volume in _volumes_of(group, pixels)]
    return sorted(found, key=_natural_order)


def make_volume(frames: Sequence[Frame]) -> FoundVolume:
    """Take frames that were found to be one volume, and say what is wrong with them, if they changed."""
    alike = [pile for group in _alike(frames) for pile in _parallel(group)]
    if len(alike) > 1:
        message = f"its files hold slices of {len(alike)} kinds (size, orientation, patient)"
        problem = Problem("unreadable", f"{message}; did they change? Run 'payerseg run' again")
        return FoundVolume(tuple(frames), problem=problem)
    ordered = _sorted(frames) if frames[0].has_place else list(frames)
    return FoundVolume(tuple(ordered), problem=check_kind(ordered) or check_geometry(ordered))


def _natural_order(volume: FoundVolume) -> tuple[bool, int, str, int]:
    number = volume.first.series_number
    return number is None, number or 0, volume.first.series, volume.part


def _volumes_of(series: list[Frame], pixels: _Pixels) -> list[FoundVolume]:
    piles: list[_Pile] = []
    for group in _alike(series):
        if group[0].has_place:
            piles += _by_orientation(group, pixels)
        else:
            piles.append(_Pile(sorted(group, key=lambda frame: frame.order)))
    piles.sort(key=lambda pile: (-len(pile.frames), pile.frames[0].order, pile.frames[0].member))
    found = []
    for part, pile in enumerate(piles, start=1):
        problem = check_kind(pile.frames) or pile.problem or check_geometry(pile.frames)
        found.append(FoundVolume(tuple(pile.frames), part, len(piles), problem, pile.notes))
    return found


def _alike(series: Sequence[Frame]) -> list[list[Frame]]:
    """Divide by what never varies inside a volume."""
    groups: dict[tuple[object, ...], list[Frame]] = defaultdict(list)
    for frame in series:
        key = (
            frame.patient, frame.modality, frame.rows, frame.columns, frame.pixels.samples,
            frame.is_localizer, frame.has_place,
        )  # fmt: skip
        groups[key].append(frame)

    def log_spacing(frame: Frame) -> tuple[float, ...]:
        return tuple(math.log(max(mm, 1e-9)) for mm in frame.spacing_mm or ())

    return [
        pile
        for group in groups.values()
        for pile in _clusters(group, log_spacing, SPACING_TOLERANCE)
    ]


def _clusters(
    frames: Iterable[Frame], numbers_of: Callable[[Frame], tuple[float, ...]], tolerance: float
) -> list[list[Frame]]:
    """Put frames together whose numbers are about equal to those of the first."""
    piles: dict[tuple[float, ...], list[Frame]] = {}
    for frame in frames:
        numbers = numbers_of(frame)
        near = (
            first
            for first in piles
            if len(first) == len(numbers)
            and all(abs(a - b) <= tolerance for a, b in zip(first, numbers, strict=True))
        )
        piles.setdefault(next(near, numbers), []).append(frame)
    return list(piles.values())


def _parallel(group: list[Frame]) -> list[list[Frame]]:
    return _clusters(group, lambda frame: frame.orientation or (), ORIENTATION_TOLERANCE)


def _by_orientation(group: list[Frame], pixels: _Pixels) -> list[_Pile]:
    """Divide by orientation; slices that fan out (scouts, radial and curved reformats) stay one pile."""
    piles = _parallel(group)
    loose = [pile for pile in piles if len(pile) < MIN_SLICES and len(piles) > 1]
    found = [
        volume
        for pile in piles
        if pile not in loose
        for volume in _resolve(_sorted(pile), pixels, SPLIT_TAGS)
    ]
    if loose:
        frames = sorted((frame for pile in loose for frame in pile), key=lambda frame: frame.order)
        message = (
            f"its {len(frames)} slices have {len(loose)} orientations; expected parallel slices "
            "(is it a scout, or a radial or curved reformat?)"
        )
        found.append(_Pile(frames, problem=Problem("bad_geometry", message)))
    return found


def _resolve(frames: list[Frame], pixels: _Pixels, tags: Sequence[str]) -> list[_Pile]:
    """Make volumes of parallel slices (sorted), as the head of this module says."""
    whole = _as_one(frames, pixels)
    if not whole.is_mixed:
        return [whole]
    places = dict(zip(map(_key, frames), _places(frames), strict=True))
    best: tuple[int, list[_Pile], str] = (0, [], "")
    for n, tag in enumerate(tags, start=1):
        parts: dict[str, list[Frame]] = defaultdict(list)
        for frame in frames:
            parts[frame.tags[tag]].append(frame)
        if len(parts) == 1 or max(map(len, parts.values())) < MIN_SLICES:
            continue
        piles = [p for value in sorted(parts) for p in _resolve(parts[value], pixels, tags[n:])]
        held = {places[_key(f)] for pile in piles if pile.problem is None for f in pile.frames}
        if len(held) > best[0]:
            best = len(held), piles, tag
        if len(held) == len(set(places.values())):
            return _rejoined(piles, pixels, tag)
    single = _one_of_each(frames, pixels)
    if single is not None:
        return [single]
    in_turn = _by_order(frames, pixels)
    if in_turn is not None:
        return in_turn
    if best[0] > MAX_DOUBLED * len(set(places.values())):
        return _rejoined(best[1], pixels, best[2])
    return [whole]


def _as_one(frames: list[Frame], pixels: _Pixels) -> _Pile:
    """Take sorted slices as one volume: leave out copies, and say what is against it."""
    places = _places(frames)
    held = Counter(places)
    once: dict[tuple[int, object], Frame] = {}
    for frame, place in zip(frames, places, strict=True):
        once.setdefault((place, pixels.content(frame) if held[place] > 1 else None), frame)
    kept = list(once.values())
    n_doubled = len(kept) - len(held)
    if n_doubled:
        message = (
            f"{n_doubled} of {len(kept)} slices lie where another does, with other pixels, and nothing "
            "in the headers tells them apart; export one acquisition"
        )
        return _Pile(frames, (), Problem("bad_geometry", message), is_mixed=True)
    notes: tuple[Note, ...] = ()
    if len(kept) < len(frames):
        message = (
            f"{len(frames) - len(kept)} copies of slices were left out (same place and pixels)"
        )
        notes = (Note("dicom_copies", message),)
    problem = check_geometry(kept)
    if problem is None and pixels.take_turns(kept):
        problem = Problem("bad_geometry", TURNS)
    is_mixed = problem is not None and problem.kind == "bad_geometry" and not problem.fillable
    return _Pile(frames if is_mixed else kept, notes, problem, is_mixed)


TURNS = (
    "slices of different content interleave (two patients, or two phases, as one series?); "
    "export one of them"
)


def _rejoined(piles: Sequence[_Pile], pixels: _Pixels, tag: str) -> list[_Pile]:
    """Join parts that adjoin; where a part fits several, it goes to the one that is most like it."""
    normal = normal_of(piles[0].frames[0])
    whole = sorted(
        (pile for pile in piles if pile.problem is None),
        key=lambda pile: float(positions_mm(pile.frames[:1])[0] @ normal),
    )
    volumes: list[_Pile] = []
    for pile in whole:
        fits = []
        for k, below in enumerate(volumes):
            joined = _joined(below, pile, pixels, tag)
            if joined is not None:
                alike = sum(
                    below.frames[-1].tags[name] == pile.frames[0].tags[name] for name in SPLIT_TAGS
                )
                fits.append((alike, k, joined))
        fits.sort(key=lambda fit: -fit[0])
        if fits and (len(fits) == 1 or fits[0][0] > fits[1][0]):
            volumes[fits[0][1]] = fits[0][2]
        else:
            volumes.append(pile)
    if len(volumes) > 1:
        told = Note("dicom_split", f"the series holds {len(volumes)} volumes, told apart by {tag}")
        volumes = [replace(pile, notes=(*pile.notes, told)) for pile in volumes]
    stray = [pile for pile in piles if pile.problem is not None and pile.problem.kind == "not_3d"]
    rest = [pile for pile in piles if pile.problem is not None and pile not in stray]
    if stray:
        frames = _sorted([frame for pile in stray for frame in pile.frames])
        message = f"{len(frames)} slice(s) at {len(set(_places(frames)))} place(s) are no volume"
        rest.append(_Pile(frames, problem=Problem("not_3d", message)))
    return [*volumes, *rest]


def _joined(below: _Pile, above: _Pile, pixels: _Pixels, tag: str) -> _Pile | None:
    """Join two stacks of slices that adjoin or overlap at their ends; None if they are no neighbours."""
    normal = normal_of(below.frames[0])
    spans = [positions_mm(pile.frames) @ normal for pile in (below, above)]
    if spans[1][0] <= spans[0][0] or spans[1][-1] <= spans[0][-1]:
        return None  # one lies within the other
    by_place = _by_place(_sorted([*below.frames, *above.frames]))
    doubled = [group for group in by_place if len(group) > 1]
    if len(doubled) >= MAX_DOUBLED * min(len(below.frames), len(above.frames)):
        return None
    own = {_key(frame) for frame in below.frames}
    kept = [next((f for f in group if _key(f) in own), group[0]) for group in by_place]
    whole = _as_one(kept, pixels)
    if whole.problem is not None:
        return None
    n_differ = sum(len({pixels.digest(frame) for frame in group}) > 1 for group in doubled)
    sizes = f"{len(below.frames)} and {len(above.frames)} slices"
    text = f"parts of {sizes}, told apart by {tag}, adjoin and were joined"
    text += f"; {len(doubled)} doubled slices were used once" if doubled else ""
    notes = [*below.notes, *above.notes, Note("dicom_joined", text)]
    if n_differ:
        message = (
            f"{n_differ} doubled slices differ in their pixels (movement?); one of each was used"
        )
        notes.append(Note("dicom_doubled_differ", message, review=True))
    return replace(whole, notes=tuple(notes))


def _one_of_each(frames: list[Frame], pixels: _Pixels) -> _Pile | None:
    """Use one slice of each place, where few places are doubled and a sound volume comes of it."""
    by_place = _by_place(frames)
    doubled = [group for group in by_place if len(group) > 1]
    n_differ = sum(len(set(map(pixels.content, group))) > 1 for group in doubled)
    pile = _as_one([group[0] for group in by_place], pixels)
    if not n_differ or n_differ >= MAX_DOUBLED * len(by_place) or pile.is_mixed:
        return None
    n_left = len(frames) - len(by_place)
    message = f"{n_left} slices were left out where others lie; at {n_differ} places they differ in pixels"
    return replace(pile, notes=(Note("dicom_doubled_differ", message, review=True),))


def _by_order(frames: list[Frame], pixels: _Pixels) -> list[_Pile] | None:
    """Divide by instance number where every place is held equally often."""
    places = _places(frames)
    counts = set(np.bincount(places).tolist())
    n_parts = counts.pop()
    numbers = {frame.order for frame in frames}
    if counts or n_parts == 1 or len(numbers) < len(frames):
        return None
    parts = [_as_one(frames[k::n_parts], pixels) for k in range(n_parts)]
    if any(part.is_mixed for part in parts):
        return None
    message = f"the series holds {n_parts} volumes, told apart by the order of instance numbers"
    return [replace(part, notes=(*part.notes, Note("dicom_split", message))) for part in parts]


def _key(frame: Frame) -> tuple[str, int | None]:
    return frame.member, frame.index


def _sorted(frames: Sequence[Frame]) -> list[Frame]:
    """Sort along the normal; names and instance numbers only decide where places are equal."""
    along = positions_along(frames)
    ranked = [frames[k] for k in sorted(range(len(frames)), key=along.__getitem__)]
    places = dict(zip(map(_key, ranked), _places(ranked), strict=True))
    return sorted(ranked, key=lambda frame: (places[_key(frame)], frame.order, frame.member))


def _by_place(frames: list[Frame]) -> list[list[Frame]]:
    """Put sorted slices together that lie in one place."""
    pairs = groupby(zip(_places(frames), frames, strict=True), key=itemgetter(0))
    return [[frame for _, frame in group] for _, group in pairs]


def _places(frames: Sequence[Frame]) -> list[int]:
    """Number the places along the normal that sorted slices hold."""
    along = positions_along(frames)
    near = min(SAME_PLACE_MM, 0.1 * min(frames[0].spacing_mm or (1.0,)))
    return np.concatenate([[0], np.cumsum(np.abs(np.diff(along)) > near)]).tolist()


class _Pixels:
    """What slices show, read only when it is asked for, and remembered as a digest."""

    def __init__(self, values: Values) -> None:
        self._values = values
        self._digests: dict[tuple[str, int | None], str] = {}

    def digest(self, frame: Frame) -> str:
        """Return the same for frames with the same Hounsfield units."""
        key = _key(frame)
        if key not in self._digests:
            values = self._values(frame)
            data = repr(key).encode() if values is None else values.astype(np.float32).tobytes()
            self._digests[key] = hashlib.blake2b(data, digest_size=16).hexdigest()
        return self._digests[key]

    def content(self, frame: Frame) -> object:
        """Return the same for copies: equal values, reconstruction and place within the plane."""
        place = positions_mm([frame])[0]
        aside = place - normal_of(frame) * (place @ normal_of(frame))
        return self.digest(frame), frame.tags["ConvolutionKernel"], tuple(np.rint(aside))

    def take_turns(self, frames: Sequence[Frame]) -> bool:
        """Tell whether slices that alternate in a tag also alternate in what they show."""
        if not any(_alternates(frames, tag) for tag in SPLIT_TAGS):
            return False
        middle = len(frames) // 2
        window = frames[max(0, middle - MIN_RUN) : middle + MIN_RUN + 2]
        shown = [values for frame in window if (values := self._values(frame)) is not None]
        return len(shown) == len(window) and interleaves(np.stack(shown))


def _alternates(frames: Sequence[Frame], tag: str) -> bool:
    """Tell whether neighbours mostly differ in a tag that has few values."""
    values = [frame.tags[tag] for frame in frames]
    changes = sum(a != b for a, b in pairwise(values))
    return len(set(values)) <= MAX_IN_TURN and 2 * changes >= len(values)
