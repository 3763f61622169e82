"""The model card: every fact that training fixed and inference must repeat (model.json ↔ dataclasses).

A card travels with its weights, so inference cannot use another preprocessing than training did.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from payerseg import records
from payerseg.config.graph import DecoderSpec
from payerseg.errors import BundleError

CARD_FORMAT = 1
CARD_FILE = "model.json"
WEIGHTS_FILE = "model.weights.h5"
PRIOR_FILE = "spine_prior.json"
LEVELS_FOLDER = "levels"
"""Below a bundle of stage 2: the bundle of its second network."""

Antialias = Literal["none", "box"]


@dataclass(frozen=True, slots=True)
class WindowSpec:
    """How brightness becomes network input: `clip(hu * scale + shift, low, high)`."""

    scale: float = 1 / 600
    shift: float = 0.0
    low: float = -1.7
    high: float = 2.5


@dataclass(frozen=True, slots=True)
class SamplingSpec:
    """How a scan becomes network input.

    Attributes:
        spacing_mm: isotropic spacing of the input, mm.
        multiple: every side of the input is a multiple of this many voxels.
        size_xyz: fixed input size in voxels (stage 3), None where it follows the scan or box.
        antialias: "box" averages whole voxels down to just below `spacing_mm` before the linear
            resampling; "none" does not.
        smoothing_mm: sigmas of Gaussians applied one after the other before resampling.
        window: intensities.
        outside_hu: value beyond the scan.
        margin_mm: growth of the spine box (x, y, z) before stage 2, of the box around the landmarks
            where stage 3 segments all vertebrae at once.
        offset_mm: shift (x, y, z) of the stage-3 crop's centre from the landmark.
        sigma_mm: sigma of the point heatmap: the target of stages 1 and 2, the input of stage 3.
        base_mm: spacing that a scan is averaged down to before views are sampled from it; None = views
            are sampled from the scan.
        size_rule: "multiple" rounds up to `multiple`; "reference" picks from the reference's sizes.
    """

    spacing_mm: float
    multiple: int = 16
    size_xyz: tuple[int, int, int] | None = None
    antialias: Antialias = "box"
    smoothing_mm: tuple[float, ...] = ()
    window: WindowSpec = field(default_factory=WindowSpec)
    outside_hu: float = -1024.0
    margin_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    offset_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    sigma_mm: float = 6.0
    base_mm: float | None = None
    size_rule: Literal["multiple", "reference"] = "multiple"


@dataclass(frozen=True, slots=True)
class UNetSpec:
    """A 3-D U-Net.

    Attributes:
        widths: filters per level, finest first; its length is the number of levels.
        inputs, outputs: channels.
        repeats: convolutions per block.
        style: "payer": the deepest level runs a contracting and an expanding block (REFERENCE §2.1);
            "simple": one block there.
        activation: after each convolution; "leaky_relu" has slope 0.1.
        normalization: between convolution and activation.
        dropout: after each activation, training only.
        upsampling: "linear" (half-pixel, edge-replicated) or "nearest".
        head_activation: of the 1x1x1 head.
        head_stddev: None = He initialisation; else truncated normal of this sigma.
        head_bias: initial bias of the head.
    """

    widths: tuple[int, ...]
    inputs: int = 1
    outputs: int = 1
    repeats: int = 2
    style: Literal["payer", "simple"] = "payer"
    activation: Literal["leaky_relu", "relu"] = "leaky_relu"
    normalization: Literal["none", "batch"] = "none"
    dropout: float = 0.0
    upsampling: Literal["linear", "nearest"] = "linear"
    head_activation: Literal["linear", "tanh", "sigmoid", "softmax"] = "linear"
    head_stddev: float | None = None
    head_bias: float = 0.0


@dataclass(frozen=True, slots=True)
class SCNetSpec:
    """A SpatialConfiguration-Net: local heatmaps times spatial heatmaps.

    Attributes:
        local: U-Net on the image; its head activation makes the local heatmaps.
        spatial: U-Net at 1/pool resolution; its head is upsampled, then activated.
        pool: average pooling before, and upsampling factor after, the spatial net.
        spatial_input: what the spatial net sees: "local" heatmaps (REFERENCE §2.3) or the "image"
            (two parallel pathways).
        upsampling: of the spatial heatmaps.
        spatial_activation: after that upsampling.
    """

    local: UNetSpec
    spatial: UNetSpec
    pool: int = 4
    spatial_input: Literal["local", "image"] = "local"
    upsampling: Literal["cubic", "linear"] = "cubic"
    spatial_activation: Literal["linear", "tanh", "sigmoid"] = "tanh"


@dataclass(frozen=True, slots=True)
class LevelNetSpec:
    """A network that must choose a level at each given place (docs/adr/0016-level-evidence.md).

    Attributes:
        shape_zyx: voxels of a view.
        widths: filters at strides 2, 4, 8 and 16.
        dense: units of the layers that read the features of one place.
        outputs: answers per place; `domain.levels` says which.
        dropout: after the first dense layer, training only.
    """

    shape_zyx: tuple[int, int, int] = (96, 56, 80)
    widths: tuple[int, int, int, int] = (32, 64, 96, 128)
    dense: tuple[int, int] = (192, 128)
    outputs: int = 36
    dropout: float = 0.3


NetworkSpec = UNetSpec | SCNetSpec | LevelNetSpec
NetworkT = TypeVar("NetworkT", UNetSpec, SCNetSpec, LevelNetSpec)


@dataclass(frozen=True, slots=True)
class Source:
    """One training source, as its licence asks it to be named."""

    name: str
    licence: str
    items: int = 0
    note: str = ""


SOURCE_SEPARATOR = " | "


def joined_sources(texts: Iterable[str]) -> str:
    """Join the sources (or licences) of one item that was made from several."""
    return SOURCE_SEPARATOR.join(texts)


def single_sources(sources: Iterable[Source]) -> tuple[Source, ...]:
    """Take joined sources apart again; each counts the items that it had a part in."""
    items: dict[tuple[str, str, str], int] = {}
    for source in sources:
        names = source.name.split(SOURCE_SEPARATOR)
        licences = source.licence.split(SOURCE_SEPARATOR)
        if len(licences) != len(names):
            licences = [source.licence] * len(names)
        for key in {(n, at, source.note) for n, at in zip(names, licences, strict=True)}:
            items[key] = items.get(key, 0) + source.items
    return tuple(Source(n, at, count, note) for (n, at, note), count in sorted(items.items()))


@dataclass(frozen=True, slots=True)
class TrainingRecord:
    """How the weights came to be."""

    sources: tuple[Source, ...] = ()
    metrics: dict[str, float] = field(default_factory=dict)
    iterations: int = 0
    seed: int = 0
    hardware: str = ""
    hours: float = 0.0
    command: str = ""
    notes: str = ""


@dataclass(frozen=True, slots=True)
class ModelCard(Generic[NetworkT]):
    """Everything a stage must know about its weights.

    Attributes:
        stage: name of the stage the weights are for.
        family: "payer" (this house's default) or "verse_pytorch".
        output: what the network's last layer means.
        channels: VerSe labels of the output channels, () where there is one.
        weights_sha256: of the weights file.
        weights_dtype: how the file stores weights; they are float32 once opened.
        decoder: stage 2 only: what the decoder must know of the networks.
        mask_threshold: stage 3 only: probability from which a voxel is vertebra.
    """

    stage: str
    network: NetworkT
    sampling: SamplingSpec
    output: Literal["heatmap", "logit", "probability", "label_probability", "levels"] = "heatmap"
    family: str = "payer"
    channels: tuple[int, ...] = ()
    weights_sha256: str = ""
    weights_dtype: Literal["float32", "float16"] = "float32"
    decoder: DecoderSpec = field(default_factory=DecoderSpec)
    mask_threshold: float = 0.5
    format: int = CARD_FORMAT
    training: TrainingRecord = field(default_factory=TrainingRecord)

    def to_json(self) -> str:
        """Return the card as indented JSON with a stable key order."""
        data = records.to_plain(self)
        data["network"] = {"type": type(self.network).__name__, **data["network"]}
        return records.to_json(data, sort_keys=False)

    @classmethod
    def from_json(cls, text: str | bytes, source: str = CARD_FILE) -> ModelCard:
        """Read a card.

        Raises:
            BundleError: not JSON, an unknown or missing key, a wrong type, another format version.
        """
        remedy = "expected a payerseg model card"
        data = records.decode(dict[str, Any], text, source, remedy, BundleError)
        if data.get("format") != CARD_FORMAT:
            found = data.get("format")
            msg = f"{source} has card format {found!r}; this payerseg reads format {CARD_FORMAT}"
            raise BundleError(msg)
        network = data.get("network")
        name = str(network.pop("type", None)) if isinstance(network, dict) else "none"
        if name not in _CARD_TYPES:
            msg = f"{source}: network type {name!r} is unknown; known are {sorted(_CARD_TYPES)}"
            raise BundleError(msg)
        return records.convert(_CARD_TYPES[name], data, source, remedy, BundleError)

    @classmethod
    def read(cls, folder: Path) -> ModelCard:
        """Read the card of a bundle folder.

        Raises:
            BundleError: the folder holds none, or a wrong one.
        """
        path = folder / CARD_FILE
        try:
            return cls.from_json(path.read_bytes(), str(path))
        except FileNotFoundError as error:
            msg = f"{folder} holds no {CARD_FILE}; expected a model bundle (folder with card and weights)"
            raise BundleError(msg) from error
        except OSError as error:
            msg = f"{path} cannot be read ({error.strerror}); check its permissions"
            raise BundleError(msg) from error


_CARD_TYPES: dict[str, type[ModelCard]] = {
    "UNetSpec": ModelCard[UNetSpec],
    "SCNetSpec": ModelCard[SCNetSpec],
    "LevelNetSpec": ModelCard[LevelNetSpec],
}
