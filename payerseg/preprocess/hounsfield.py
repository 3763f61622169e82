"""Are these Hounsfield units? One test on the histogram, with numbers measured on 148 CTs of many sources.

Where the parts of a body lie tells offset, scale and sign at once. In those 148 scans, and in 56 crops
around their spines (in brackets where they go further), 0.8 (0.7) or more of the tissue (above -250 HU)
lies within 200 HU of water; voxels between lung and fat (-750..-250) are at most 0.3 of that; the mode of
soft tissue lies between -100 and 92 HU; at 800..1300 HU there are at most 1.4 times as many voxels as at
300..700; and where a quarter of the voxels is air, its mode lies between -1013 and -956 HU. The limits below
leave a margin to each. Crops without air are looked at once more where their vertebrae are known
(`report/scan_checks.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from scipy import ndimage

from payerseg.errors import NotHounsfield
from payerseg.imaging.scan_record import HU_CEILING, HU_FLOOR, Fact, Note

AIR_HU = -1024.0
SAMPLE_VOXELS = 2_000_000
_PADDING_HU = -1100.0
"""Below this there is no matter; scanners fill the outside of their round field with such values."""
_PADDING_VALUES = 3
_MIN_SPREAD = 20.0
_MAX_LABELS = 64
_MAX_LABEL = 300
_PICTURES = ((0.0, 255.0), (-128.0, 127.0))
_NO_NEGATIVES = -20.0
_MIN_SOFT = 0.02
_AIR_LIMIT_HU = -850.0
_MOSTLY_AIR = 0.9
"""An empty scanner is a CT too; that it holds no spine is for the network to say."""
_OFFSETS = (1024.0, 2048.0, 4096.0, 8192.0, 32768.0)
_SCALES = {
    "with the wrong sign": -1.0,
    "half of what they should be": 2.0,
    "twice what they should be": 0.5,
}
_BONE_CUT_HU = 300.0
_CEILING_LIMIT_HU = 2000.0
"""Scanners end at 3071 or above; some archives at 2500."""
_FLOOR_LIMIT_HU = -350.0
"""Windows for soft tissue begin above; those for bone may begin below, but then end at a ceiling too."""
_CUT_PART = 2e-4
_CUT_RATIO = 3.0
"""A value that holds this many times the voxels of the 50 HU beside it, and that part of all, was cut to."""
_BRIGHT_HU, _BRIGHT_PART = 400.0, 0.06
"""Never is more than this part of a scan brighter than this."""
_UINT16_HALF, _UINT16_SIZE = 32768.0, 65536.0


@dataclass(frozen=True, slots=True)
class ValueRepair:
    """How values become Hounsfield units: optionally unwrap uint16, then subtract an offset."""

    offset: float = 0.0
    unwrap: bool = False

    @property
    def is_identity(self) -> bool:
        """Whether the values are Hounsfield units as they are."""
        return not self.unwrap and self.offset == 0

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Return repaired values, float64."""
        values = np.asarray(values, np.float64)
        if self.unwrap:
            values = np.where(values >= _UINT16_HALF, values - _UINT16_SIZE, values)
        return values - self.offset


@dataclass(frozen=True, slots=True)
class ValueVerdict:
    """What was found: the repair, what to tell, and facts for the record."""

    repair: ValueRepair
    notes: tuple[Note, ...]
    facts: dict[str, Fact]


def sample_of(array: np.ndarray) -> np.ndarray:
    """Return about `SAMPLE_VOXELS` voxels on a regular raster of a (z, y, x) array, as a view."""
    step = max(1, int(np.ceil((array.size / SAMPLE_VOXELS) ** (1 / 3))))
    return array[::step, ::step, ::step]


def judge_values(sample: np.ndarray, name: str) -> ValueVerdict:
    """Decide whether sampled values are Hounsfield units, perhaps shifted.

    Args:
        sample: values as the file means them, any shape; may hold NaN and infinities.
        name: of the file, for messages.

    Raises:
        NotHounsfield: the values cannot be a CT's.
    """
    values = np.asarray(sample, np.float64).ravel()
    values = values[np.isfinite(values)]
    if not len(values):
        _refuse(name, "holds no finite value")
    if np.all(values < _PADDING_HU):
        _refuse(name, f"lies below {_PADDING_HU:g} everywhere (up to {values.max():g})")
    _refuse_flat_or_labels(values[values >= _PADDING_HU], name)
    candidates = [ValueRepair(), *(ValueRepair(offset) for offset in _OFFSETS)]
    if values.max() > _UINT16_HALF:
        candidates.append(ValueRepair(unwrap=True))
    bodies = (c for c in candidates if not _Mixture.of(c.apply(values)).faults(strict=c.offset > 0))
    repair, doubts = next(bodies, None), []
    if repair is None:
        repair, doubts = ValueRepair(), _Mixture.of(values).faults()
        _refuse_hopeless(values, doubts, name)
    return _told(repair, values, doubts)


@dataclass(frozen=True, slots=True)
class _Mixture:
    """What a histogram is made of.

    Attributes:
        soft: part of the tissue (above -250 HU) within 200 HU of water.
        between: voxels between lung and fat over those of soft tissue.
        hard: part of the tissue above 300 HU.
        peak: voxels at 800..1300 HU over those at 300..700: bone grows rarer, another tissue's mode does not.
        soft_hu: mode of all above -400 HU.
        air_hu, air: mode of all below, and the part of all voxels within 40 HU of it.
        low: 0.5 % quantile: there is always fat.
        below: part of all voxels that is darker than air and no padding.
        n_soft: part of all voxels within 250 HU of water.
        n_air: part of all voxels below -850 HU.
    """

    soft: float
    between: float
    hard: float
    peak: float
    soft_hu: float
    air_hu: float
    air: float
    low: float
    below: float
    n_soft: float
    n_air: float

    @classmethod
    def of(cls, values: np.ndarray) -> _Mixture:
        dark = values[values < _PADDING_HU]
        kinds, counts = np.unique(dark, return_counts=True)
        padded = float(np.sort(counts)[-_PADDING_VALUES:].sum()) if len(kinds) else 0.0
        below = (len(dark) - padded) / len(values)
        values = values[values >= _PADDING_HU]
        low = float(np.percentile(values, 0.5)) if len(values) else 0.0
        floor, ceiling = _window(values)
        values = values[(values > floor) & (values < ceiling)]
        tissue = values[values > -250]
        near_water = int(np.count_nonzero(np.abs(tissue) < 200))
        dark = values[values < -400]
        air_hu = _mode(dark, _PADDING_HU, -400.0)
        return cls(
            soft=near_water / max(len(tissue), 1),
            between=_count(values, -750, -250) / max(near_water, 1),
            hard=np.count_nonzero(tissue > 300) / max(len(tissue), 1),
            peak=_count(values, 800, 1300) / max(_count(values, 300, 700), 1),
            soft_hu=_mode(values[values > -400], -400.0, 4000.0),
            air_hu=air_hu,
            air=_count(dark, air_hu - 40, air_hu + 40) / max(len(values), 1),
            low=low,
            below=below,
            n_soft=_count(values, -250, 250) / max(len(values), 1),
            n_air=_count(values, _PADDING_HU, _AIR_LIMIT_HU) / max(len(values), 1),
        )

    def faults(self, *, strict: bool = False) -> list[str]:
        """Say what about this is unlike a body in Hounsfield units; [] where nothing is.

        Args:
            strict: empty scanners are none, as any value could be shifted to air.
        """
        if self.n_air > _MOSTLY_AIR and self.n_soft < _MIN_SOFT and not strict:
            return []
        found = ["there is no bone"] if strict and self.hard < 3e-3 else []
        if self.air >= 0.25 and not -1060 <= self.air_hu <= -930:
            found.append(f"air lies at {self.air_hu:.0f}, expected about -1000")
        elif self.air >= 0.02 and not -1060 <= self.air_hu <= -550:
            found.append(f"the darkest tissue lies at {self.air_hu:.0f}")
        if not -150 <= self.soft_hu <= 150:
            found.append(f"soft tissue lies at {self.soft_hu:.0f}, expected -100 to 90")
        if self.low > _NO_NEGATIVES:
            found.append(f"nothing is darker than water (0.5 % quantile {self.low:.0f})")
        if self.soft < 0.6:
            found.append(f"only {100 * self.soft:.0f} % of the tissue lies near water")
        if self.between > 0.7:
            found.append("more lies between lung and fat than is soft tissue")
        if self.hard > 0.05 and (self.hard > 0.4 or self.peak > 4):
            found.append("what is bright as bone is no bone")
        if self.below > max(1e-3, 0.25 * self.n_air):
            found.append(f"{100 * self.below:.1f} % are darker than air")
        return found


def _window(values: np.ndarray) -> tuple[float, float]:
    """Return the lowest and highest value that a scan was cut to, infinite where it was not."""
    ceiling, part = _spike_at_end(values)
    if ceiling > _CEILING_LIMIT_HU or (ceiling > _BRIGHT_HU and part > _BRIGHT_PART):
        ceiling = np.inf
    floor = -_spike_at_end(-values)[0]
    if floor < _FLOOR_LIMIT_HU and not (np.isfinite(ceiling) and floor > _AIR_LIMIT_HU):
        floor = -np.inf
    return floor, ceiling


def _spike_at_end(values: np.ndarray) -> tuple[float, float]:
    """Return the highest value, infinite if it is no spike of the histogram, and the part it holds."""
    end = float(values.max(initial=-np.inf))
    at_end = np.count_nonzero(values == end)
    beside = np.count_nonzero(values >= end - 50) - at_end
    if at_end > _CUT_PART * len(values) and at_end > _CUT_RATIO * beside:
        return end, at_end / len(values)
    return np.inf, 0.0


def _count(values: np.ndarray, low: float, high: float) -> int:
    return int(np.count_nonzero((values >= low) & (values < high)))


def _mode(values: np.ndarray, low: float, high: float) -> float:
    """Return the mode of a histogram smoothed by 32 HU (some archives store steps of 64); 0 where empty."""
    if not len(values):
        return 0.0
    counts, edges = np.histogram(values, np.arange(low, high + 8, 8))
    k = int(np.argmax(ndimage.gaussian_filter1d(counts.astype(float), 4, mode="constant")))
    return float(edges[k] + edges[k + 1]) / 2


def _refuse(name: str, found: str) -> NoReturn:
    msg = (
        f"{name} {found}; expected a CT in Hounsfield units (air -1000, water 0, bone above 200). "
        "Is it an MR, a PET, a label map, a picture, or a normalised or windowed copy?"
    )
    raise NotHounsfield(msg)


def _refuse_flat_or_labels(values: np.ndarray, name: str) -> None:
    low, high = float(values.min()), float(values.max())
    if low == high:
        _refuse(name, f"has the one value {low:g} everywhere")
    whole = np.array_equal(values, np.rint(values))
    if low >= -1 and high <= _MAX_LABEL and whole:
        distinct = len(np.unique(values))
        if distinct <= _MAX_LABELS:
            _refuse(name, f"holds only {distinct} whole values from {low:g} to {high:g}")
    if whole and any(low >= first and high <= last for first, last in _PICTURES):
        _refuse(name, f"holds whole values from {low:g} to {high:g}, as 8-bit pictures do")
    spread = float(np.subtract(*np.percentile(values, [99.9, 0.1])))
    if spread < _MIN_SPREAD and high - low < 10 * _MIN_SPREAD:
        _refuse(name, f"spans only {low:g} to {high:g}")


def _refuse_hopeless(values: np.ndarray, doubts: list[str], name: str) -> None:
    """Refuse values that no shift makes a body of, if they are another thing's beyond doubt."""
    for told, factor in _SCALES.items():
        other = _Mixture.of(factor * values)
        if other.air >= 0.1 and not other.faults(strict=True):
            _refuse(name, f"has values {told} ({'; '.join(doubts)})")
    mixture = _Mixture.of(values)
    if mixture.low > _NO_NEGATIVES:
        _refuse(name, f"has no values below water (0.5 % quantile {mixture.low:g})")
    if mixture.n_soft < _MIN_SOFT and mixture.n_air < _MOSTLY_AIR:
        _refuse(name, f"has only {100 * mixture.n_soft:.1f} % of its voxels within 250 of water")
    displaced = mixture.air >= 0.25 and not -1100 <= mixture.air_hu <= -850
    darker = mixture.below > 0.05 + 0.5 * mixture.air
    if displaced or darker or mixture.between > 2:
        _refuse(name, f"is unlike a body ({'; '.join(doubts)})")


def _told(repair: ValueRepair, values: np.ndarray, doubts: list[str]) -> ValueVerdict:
    notes, facts = [], dict[str, Fact]()
    repaired = repair.apply(values[values >= _PADDING_HU])
    if repair.offset:
        message = (
            f"values are Hounsfield units plus {repair.offset:g}; {repair.offset:g} was subtracted"
        )
        notes.append(Note("offset_removed", message))
    if repair.unwrap:
        message = "negative values were stored as unsigned 16-bit; their sign was restored"
        notes.append(Note("sign_restored", message))
    if doubts:
        message = f"the values may not be Hounsfield units: {'; '.join(doubts)}"
        notes.append(Note("doubtful_values", message, review=True))
    padding = 1 - np.count_nonzero(repair.apply(values) >= _PADDING_HU) / len(values)
    if padding > 0.001:
        message = (
            f"{100 * padding:.1f} % of the voxels are padding below {_PADDING_HU:g}; taken as air"
        )
        notes.append(Note("padding", message))
    floor, ceiling = _window(repaired)
    if np.isfinite(floor):
        facts[HU_FLOOR] = floor
    if np.isfinite(ceiling):
        facts[HU_CEILING] = ceiling
        message = (
            f"values were cut at {ceiling:.0f} HU, as by an export through a window: brighter bone "
            "cannot be told apart, and Hounsfield units of what was cut are not tabulated"
        )
        notes.append(Note("bone_cut_off", message, review=True))
    elif repaired.max() < _BONE_CUT_HU:
        message = (
            f"no voxel exceeds {repaired.max():.0f} HU; was the scan exported through a window?"
        )
        notes.append(Note("bone_cut_off", message, review=True))
    return ValueVerdict(repair, tuple(notes), facts)
