"""Are these Hounsfield units? Rules with numbers, measured on 28 CTs and 33 planning CTs of many sources.

There, 17 to 91 % of all voxels lie within 250 HU of water; of the tissue (above -400 HU) at least 78 %
lies within 200 HU of water; voxels between lung and fat (-750..-250 HU) are at most 0.3 times as many as
soft tissue; the 99th percentile is at most 1456 HU. In-body crops have no air at all, but always fat:
their 0.5 % quantile is below -100 HU. The limits below leave a wide margin to each of these.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from payerseg.errors import NotHounsfield
from payerseg.imaging.scan_record import Note

AIR_HU = -1024.0
SAMPLE_VOXELS = 2_000_000
_PADDING_HU = -1100.0
"""Below this there is no matter; scanners fill the outside of their round field with such values."""
_MIN_SPREAD = 20.0
_MAX_LABELS = 64
_MAX_LABEL = 300
_NO_NEGATIVES = -20.0
_MIN_SOFT = 0.02
_AIR_LIMIT_HU = -850.0
_MOSTLY_AIR = 0.5
"""An empty scanner is a CT too; that it holds no spine is for the network to say."""
_MAX_P99 = 4000.0
_OFFSETS = (1024.0, 8192.0, 32768.0)
_STRICT_SOFT = 0.55
_STRICT_BETWEEN = 0.6
_BONE_CUT_HU = 300.0
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


def sample_of(array: np.ndarray) -> np.ndarray:
    """Return about `SAMPLE_VOXELS` voxels on a regular raster of a (z, y, x) array, as a view."""
    step = max(1, int(np.ceil((array.size / SAMPLE_VOXELS) ** (1 / 3))))
    return array[::step, ::step, ::step]


def judge_values(sample: np.ndarray, name: str) -> tuple[ValueRepair, tuple[Note, ...]]:
    """Decide whether sampled values are Hounsfield units, perhaps shifted.

    Args:
        sample: values as the file means them, any shape; may hold NaN and infinities.
        name: of the file, for messages.

    Returns:
        How to repair the values, and notes.

    Raises:
        NotHounsfield: the values cannot be a CT's.
    """
    values = np.asarray(sample, np.float64).ravel()
    values = values[np.isfinite(values)]
    if not len(values):
        _refuse(name, "holds no finite value")
    inside = values[values >= _PADDING_HU]
    if not len(inside):
        _refuse(name, f"lies below {_PADDING_HU:g} everywhere (up to {values.max():g})")
    _refuse_flat_or_labels(inside, name)
    low, high = np.percentile(inside, [0.5, 99.0])
    repair = ValueRepair() if low < _NO_NEGATIVES else _find_repair(inside)
    if repair is None:
        _refuse(name, f"has no values below water (0.5 % quantile {low:g}, 99 % quantile {high:g})")
    repaired = repair.apply(inside)
    _refuse_strange_mixture(repaired, name)
    return repair, _notes(repair, values, repaired)


def _refuse(name: str, found: str) -> NoReturn:
    msg = (
        f"{name} {found}; expected a CT in Hounsfield units (air -1000, water 0, bone above 200). "
        "Is it an MR, a PET, a label map, or a normalised or windowed copy?"
    )
    raise NotHounsfield(msg)


def _refuse_flat_or_labels(values: np.ndarray, name: str) -> None:
    low, high = float(values.min()), float(values.max())
    if low == high:
        _refuse(name, f"has the one value {low:g} everywhere")
    if low >= -1 and high <= _MAX_LABEL:
        distinct = np.unique(values)
        if len(distinct) <= _MAX_LABELS and np.array_equal(distinct, np.rint(distinct)):
            _refuse(name, f"holds only {len(distinct)} whole values from {low:g} to {high:g}")
    spread = float(np.subtract(*np.percentile(values, [99.9, 0.1])))
    if spread < _MIN_SPREAD and high - low < 10 * _MIN_SPREAD:
        _refuse(name, f"spans only {low:g} to {high:g}")


def _find_repair(values: np.ndarray) -> ValueRepair | None:
    """Look for an offset, or a sign lost in uint16, that makes a body of the values."""
    candidates = [ValueRepair(offset) for offset in _OFFSETS]
    if values.max() > _UINT16_HALF:
        candidates.append(ValueRepair(unwrap=True))
    return next((repair for repair in candidates if _is_body(repair.apply(values))), None)


def _is_body(values: np.ndarray) -> bool:
    """Whether values look like a body beyond doubt: much soft tissue, little between it and air."""
    inside = values[values >= _PADDING_HU]
    tissue = inside[inside > -400]
    if len(inside) < 0.5 * len(values) or len(tissue) < 0.01 * len(values):
        return False
    soft = np.count_nonzero(np.abs(tissue) < 200)
    between = np.count_nonzero((inside > -750) & (inside < -250))
    return bool(soft > _STRICT_SOFT * len(tissue) and between < _STRICT_BETWEEN * soft)


def _refuse_strange_mixture(values: np.ndarray, name: str) -> None:
    soft = np.count_nonzero(np.abs(values) <= 250) / len(values)
    air = np.count_nonzero(values < _AIR_LIMIT_HU) / len(values)
    if soft < _MIN_SOFT and air < _MOSTLY_AIR:
        _refuse(name, f"has only {100 * soft:.1f} % of its voxels within 250 of water")
    p99 = float(np.percentile(values, 99))
    if p99 > _MAX_P99:
        _refuse(name, f"has 1 % of its voxels above {p99:g}")


def _notes(repair: ValueRepair, values: np.ndarray, repaired: np.ndarray) -> tuple[Note, ...]:
    notes = []
    if repair.offset:
        message = (
            f"values are Hounsfield units plus {repair.offset:g}; {repair.offset:g} was subtracted"
        )
        notes.append(Note("offset_removed", message))
    if repair.unwrap:
        message = "negative values were stored as unsigned 16-bit; their sign was restored"
        notes.append(Note("sign_restored", message))
    padding = 1 - len(repaired) / len(values)
    if padding > 0.001:
        message = (
            f"{100 * padding:.1f} % of the voxels are padding below {_PADDING_HU:g}; taken as air"
        )
        notes.append(Note("padding", message))
    if repaired.max() < _BONE_CUT_HU:
        message = (
            f"no voxel exceeds {repaired.max():.0f} HU; was the scan exported through a window?"
        )
        notes.append(Note("bone_cut_off", message))
    return tuple(notes)
