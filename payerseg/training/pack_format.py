"""A packed data set: arrays on disk that training reads with numpy alone, no medical image library.

    pack/index.json                                  what is in it, from which source and licence
    pack/<network>/<item>.npz                        one scan (stages 1, 2) or one vertebra (stage 3)
    pack/<network>/val/<item>.npz                    the network's exact input for a validation item

No file holds a pickle. `pack` writes this format.
"""

from __future__ import annotations

import threading
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from payerseg import records
from payerseg.atomic import replacing, write_text
from payerseg.config.training import LEVEL_NETWORK
from payerseg.domain.grid import Grid
from payerseg.domain.volume import Volume
from payerseg.errors import DatasetError
from payerseg.preprocess.channels import with_closeness_maps
from payerseg.preprocess.frames import centred_grid
from payerseg.training.examples import PackedScan, PackedVertebra, region_of_channel

PACK_FORMAT = 1
INDEX_FILE = "index.json"
T13_LABEL, T13_CHANNEL = 28, 25


@dataclass(frozen=True, slots=True)
class PackItem:
    """One array file.

    Attributes:
        name: unique within its network; the file's name.
        network: stage name.
        case_id, patient_id: whose.
        split: "train", "val" or "".
        group: "real", "synthetic", ...; draws are shared out by group.
        source, licence: for the model card.
        marks: number of marked (or masked) vertebrae.
        has_val_input: whether `val/<name>.npz` exists.
    """

    name: str
    network: str
    case_id: str
    patient_id: str
    split: str
    group: str
    source: str
    licence: str
    marks: int = 0
    has_val_input: bool = False


@dataclass(frozen=True, slots=True)
class PackIndex:
    """What a pack holds.

    Attributes:
        items: of all networks, sorted.
        sampling: network → the model card's sampling as plain JSON, which the val inputs were made
            with.
        format: of the pack's files.
    """

    items: tuple[PackItem, ...] = ()
    sampling: Mapping[str, Any] = field(default_factory=dict)
    format: int = PACK_FORMAT

    def __post_init__(self) -> None:
        if self.format != PACK_FORMAT:
            msg = f"format {self.format}; this payerseg reads {PACK_FORMAT}"
            raise ValueError(msg)

    def of(self, network: str) -> tuple[PackItem, ...]:
        """Return the items of one network."""
        return tuple(item for item in self.items if item.network == network)

    def merged(self, items: Iterable[PackItem], sampling: Mapping[str, Any]) -> PackIndex:
        """Return the index with items added or replaced by name.

        Raises:
            DatasetError: a network would hold inputs of two different samplings.
        """
        both = dict(self.sampling)
        for network, spec in sampling.items():
            if both.get(network, spec) != spec:
                msg = f"the pack holds {network} at another sampling; prepare into another folder"
                raise DatasetError(msg)
            both[network] = spec
        table = {(item.network, item.name): item for item in [*self.items, *items]}
        return PackIndex(tuple(table[key] for key in sorted(table)), both)

    def write(self, folder: Path) -> None:
        """Write index.json, replaced in one move."""
        write_text(folder / INDEX_FILE, records.to_json(self, sort_keys=False))

    @classmethod
    def read(cls, folder: Path) -> PackIndex:
        """Read a pack's index.

        Raises:
            DatasetError: there is none, or it is damaged, or of another format.
        """
        remedy = "run: payerseg train prepare"
        found = records.read(cls, folder / INDEX_FILE, remedy, DatasetError)
        if found is None:
            msg = f"{folder} holds no packed data; {remedy}"
            raise DatasetError(msg)
        return found


@dataclass(frozen=True, slots=True)
class ValInput:
    """What the network sees of a validation item, bit for bit as at inference.

    Attributes:
        name: of the item.
        x: (z, y, x, channel) float32.
        origin_mm: (3,) LPS of the first voxel's centre; the grid is axis-aligned.
        spacing_mm: isotropic.
        marks: (n, 4) rows of channel, x, y, z mm.
        partial: channels of vertebrae that are visible but not marked.
        mask: (z, y, x) uint8, stage 3 only.
        label: VerSe label, stage 3 only.
        scan: the packed scan, level network only: its views are made from it, as at inference.
    """

    name: str
    x: np.ndarray
    origin_mm: np.ndarray
    spacing_mm: float
    marks: np.ndarray
    partial: tuple[int, ...] = ()
    mask: np.ndarray | None = None
    label: int = 0
    scan: PackedScan | None = None

    def mark_indices(self) -> np.ndarray:
        """Return the marks as continuous indices (n, 3), z y x."""
        return ((self.marks[:, 1:] - self.origin_mm) / self.spacing_mm)[:, ::-1]


def item_path(folder: Path, item: PackItem) -> Path:
    """Return where an item's arrays lie."""
    return folder / item.network / f"{item.name}.npz"


def val_path(folder: Path, item: PackItem) -> Path:
    """Return where an item's exact network input lies."""
    return folder / item.network / "val" / f"{item.name}.npz"


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write one .npz, replaced in one move."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)


def read_arrays(path: Path, *names: str) -> dict[str, np.ndarray]:
    """Read one .npz, or only some of its arrays.

    Raises:
        DatasetError: missing or damaged.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as data:
            return {key: data[key] for key in names or data.files}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        msg = f"{path} is not readable ({error}); prepare the data again"
        raise DatasetError(msg) from error


def read_scan(folder: Path, item: PackItem) -> PackedScan:
    """Read an item of stage 1 or 2."""
    data = read_arrays(item_path(folder, item))
    return PackedScan(
        name=item.name,
        ct=_aligned(data["hu"], data["origin_mm"], data["spacing_mm"]),
        marks=data["marks"],
        partial=tuple(int(c) for c in data["partial"]),
        group=item.group,
        ribs=data.get("ribs"),
        sacrum_mm=data.get("sacrum_mm"),
    )


def read_region(folder: Path, item: PackItem) -> int:
    """Read only which region of the spine an item of stage 3 is from.

    Raises:
        DatasetError: missing or damaged.
    """
    return region_of_channel(
        _channel_of(int(read_arrays(item_path(folder, item), "label")["label"]))
    )


def read_vertebra(folder: Path, item: PackItem) -> PackedVertebra:
    """Read an item of stage 3."""
    data = read_arrays(item_path(folder, item))
    label, hu, spacing = int(data["label"]), data["hu"], float(data["spacing_mm"])
    return PackedVertebra(
        name=item.name,
        ct=Volume(hu, centred_grid((0, 0, 0), hu.shape[::-1], spacing)),
        labels=data["labels"],
        label=label,
        centre_mm=data["centre_mm"],
        region=region_of_channel(_channel_of(label)),
        group=item.group,
        marks=data.get("marks"),
    )


def _aligned(array: np.ndarray, origin_mm: np.ndarray, spacing_mm: np.ndarray) -> Volume:
    """Return an array on its axis-aligned isotropic grid."""
    origin = tuple(float(v) for v in origin_mm)
    return Volume(array, Grid(array.shape[:3], (float(spacing_mm),) * 3, origin))


def _channel_of(label: int) -> int:
    return T13_CHANNEL if label == T13_LABEL else label - 1


def read_val_input(folder: Path, item: PackItem) -> ValInput:
    """Read the exact network input of a validation item."""
    if item.network == LEVEL_NETWORK:
        scan = read_scan(folder, item)
        return ValInput(
            item.name, scan.hu[..., None], scan.origin_mm, scan.spacing_mm, scan.marks,
            scan.partial, scan=scan,
        )  # fmt: skip
    data = read_arrays(val_path(folder, item))
    x = data["x"]
    if "all_marks" in data:
        # One map per level would fill the disk; they are made again by the same function.
        rows, image = data["all_marks"], _aligned(x, data["origin_mm"], data["spacing_mm"])
        x = with_closeness_maps(image, rows[:, 0], rows[:, 1:], int(data["n_maps"])).array
    return ValInput(
        name=item.name,
        x=x,
        origin_mm=data["origin_mm"],
        spacing_mm=float(data["spacing_mm"]),
        marks=data["marks"],
        partial=tuple(int(c) for c in data["partial"]),
        mask=data.get("mask"),
        label=int(data["label"]) if "label" in data else 0,
    )


CACHE_BYTES = 3 * 1024**3
"""What stays in memory of what was read; an item of the default size takes 9 MB."""


@dataclass(frozen=True, slots=True)
class VertebraLabel:
    """What must be known of a vertebra before it is read: its group of draws and its region."""

    group: str
    region: int


class VertebraCache:
    """A sequence of vertebrae; those used last stay in memory.

    Args:
        labels: of every item.
        read: reads item number i; called from several threads.
        memory_bytes: of kept items.
    """

    def __init__(
        self,
        labels: Sequence[VertebraLabel],
        read: Callable[[int], PackedVertebra],
        memory_bytes: int = CACHE_BYTES,
    ) -> None:
        self.labels = tuple(labels)
        self._read = read
        self._limit, self._used = memory_bytes, 0
        self._kept: OrderedDict[int, PackedVertebra] = OrderedDict()
        self._lock = threading.Lock()

    @classmethod
    def of_pack(
        cls, pack: Path, items: Sequence[PackItem], memory_bytes: int = CACHE_BYTES
    ) -> VertebraCache:
        """Return a vertebrae over a pack's files; only their level is read now."""
        labels = [VertebraLabel(item.group, read_region(pack, item)) for item in items]
        return cls(labels, lambda number: read_vertebra(pack, items[number]), memory_bytes)

    def __len__(self) -> int:
        """Return the number of vertebrae."""
        return len(self.labels)

    def __getitem__(self, number: int) -> PackedVertebra:
        """Return a vertebra, from memory or from its file."""
        with self._lock:
            if number in self._kept:
                self._kept.move_to_end(number)
                return self._kept[number]
        item = self._read(number)
        size = _size_of(item)
        with self._lock:
            if size <= self._limit and number not in self._kept:
                while self._used + size > self._limit:
                    self._used -= _size_of(self._kept.popitem(last=False)[1])
                self._kept[number] = item
                self._used += size
        return item


def _size_of(item: PackedVertebra) -> int:
    return item.ct.array.nbytes + item.labels.nbytes
