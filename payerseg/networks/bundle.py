"""The model bundle: a folder with a model card and the weights it describes, opened strictly.

The weights file is HDF5: one dataset per variable, `<layer>/<variable>`, for instance
`contracting0_conv1/kernel`. Not Keras's own layout, which numbers layers by class in order of
creation: there, two convolutions of equal shape can change places unnoticed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import keras
import numpy as np

from payerseg.atomic import replacing, write_text
from payerseg.config.model_card import CARD_FILE, WEIGHTS_FILE, ModelCard, NetworkSpec
from payerseg.config.weights import checkpoint_prefix, file_sha256, read_checked_card
from payerseg.errors import BundleError, ConfigError
from payerseg.networks.build import build_network
from payerseg.networks.checkpoint import import_checkpoint

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class ModelBundle:
    """Weights and everything a stage must know about them.

    Attributes:
        card: what training fixed.
        weights: variable path → float32 array; exactly the variables of the card's network.
        path: the folder or checkpoint it came from.
    """

    card: ModelCard
    weights: Arrays
    path: Path

    @classmethod
    def open(cls, path: Path, stage: str | None = None) -> ModelBundle:
        """Open a bundle folder, or a TensorFlow checkpoint given by its prefix.

        Args:
            path: either.
            stage: name of the stage that wants it; a checkpoint does not know its own, so it is
                needed there.

        Raises:
            BundleError: missing, damaged, another stage's or another network's.
        """
        path = Path(path)
        prefix = checkpoint_prefix(path)
        if prefix is not None:
            if stage is None:
                msg = f"{prefix} is a checkpoint, which does not say its stage; name the stage"
                raise BundleError(msg)
            card, weights = import_checkpoint(prefix, stage)
            model = _build(card, path)
        else:
            card = read_checked_card(path, stage)
            model = _build(card, path)
            weights = read_weights(path / WEIGHTS_FILE, _shapes(model))
        assign_weights(model, weights, str(path))
        return cls(card, weights, path)

    def network(self, dtype: str = "float32") -> keras.Model:
        """Build the network and put the weights in.

        Args:
            dtype: Keras dtype policy, as in `build_network`.
        """
        model = _build(self.card, self.path, dtype)
        assign_weights(model, self.weights, str(self.path))
        return model


def _build(card: ModelCard, path: Path, dtype: str = "float32") -> keras.Model:
    try:
        return build_network(card.network, dtype)
    except ConfigError as error:
        msg = f"the card of {path} describes no network: {error}"
        raise BundleError(msg) from error


def _shapes(model: keras.Model) -> dict[str, tuple[int, ...]]:
    return {variable.path: tuple(variable.shape) for variable in model.weights}


def assign_weights(model: keras.Model, weights: Arrays, source: str) -> None:
    """Put every array into the variable of its name.

    Raises:
        BundleError: a variable is missing, left over, has another shape, or is not finite.
    """
    variables = {variable.path: variable for variable in model.weights}
    check_shapes(_shapes(model), weights, source)
    for name, variable in variables.items():
        if not np.all(np.isfinite(weights[name])):
            msg = f"{source}: {name} holds values that are not finite; the weights are unusable"
            raise BundleError(msg)
        variable.assign(weights[name].astype(np.float32))


def check_shapes(
    expected: Mapping[str, tuple[int, ...]],
    found: Mapping[str, np.ndarray | h5py.Dataset],
    source: str,
) -> None:
    """Compare names and shapes.

    Raises:
        BundleError: naming the first difference and counting all.
    """
    missing, extra = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    wrong = sorted(n for n in set(expected) & set(found) if found[n].shape != expected[n])
    if not (missing or extra or wrong):
        return
    if wrong:
        first = f"{wrong[0]} has shape {found[wrong[0]].shape}, expected {expected[wrong[0]]}"
    else:
        first = f"{missing[0]} is missing" if missing else f"{extra[0]} is left over"
    msg = (
        f"{source}: {first}; of {len(expected)} variables {len(missing)} are missing and "
        f"{len(wrong)} have another shape, {len(extra)} are left over: these weights are for "
        "another network than the card describes"
    )
    raise BundleError(msg)


def network_arrays(model: keras.Model) -> dict[str, np.ndarray]:
    """Return the variables of a model by path, as float32 numpy."""
    return {
        variable.path: keras.ops.convert_to_numpy(variable).astype(np.float32)
        for variable in model.weights
    }


def network_shapes(spec: NetworkSpec) -> dict[str, tuple[int, ...]]:
    """Return the shape of every variable of a network by path."""
    return _shapes(build_network(spec))


def save(model: keras.Model | Arrays, card: ModelCard, folder: Path) -> ModelCard:
    """Write a bundle; equal weights and card give equal bytes.

    Each file is complete before it takes its place, the card last: a bundle whose writing was cut
    short does not open.

    Args:
        model: the network, or its variables by path.
        card: `weights_dtype` says how to store; "float16" halves the file at a relative error of
            at most 5e-4 per weight. `weights_sha256` is filled in.
        folder: made if it is not there; other files in it stay.

    Returns:
        The card as written.

    Raises:
        BundleError: a weight is not finite or too large to store.
    """
    arrays = network_arrays(model) if isinstance(model, keras.Model) else model
    check_shapes(network_shapes(card.network), arrays, "model to save")
    with replacing(folder / WEIGHTS_FILE) as temporary:
        write_weights(arrays, temporary, card.weights_dtype)
        written = replace(card, weights_sha256=file_sha256(temporary))
    write_text(folder / CARD_FILE, written.to_json())
    return written


def write_weights(arrays: Arrays, path: Path, dtype: str = "float32") -> None:
    """Write arrays to HDF5, sorted by name, without times, so that equal arrays give equal bytes.

    Raises:
        BundleError: a value is not finite or does not fit `dtype`.
    """
    with h5py.File(path, "w", libver="earliest", track_order=False) as file:
        for name in sorted(arrays):
            with np.errstate(over="ignore"):
                stored = np.ascontiguousarray(arrays[name], dtype=np.dtype(dtype))
            if not np.all(np.isfinite(stored)):
                msg = (
                    f"{name} holds values that are not finite in {dtype}; such weights are unusable"
                )
                raise BundleError(msg)
            file.create_dataset(name, data=stored, track_times=False)


def read_weights(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Read all arrays of a weights file, as float32.

    What the file says of itself is compared with `shapes` before a value is read: a few bytes can claim
    gigabytes, and a dataset may lie in another file.

    Raises:
        BundleError: not HDF5, cut off, or holding something else than these arrays of floats.
    """
    found: dict[str, h5py.Dataset] = {}

    def visit(name: str, item: h5py.Dataset | h5py.Group) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = item

    try:
        with h5py.File(path, "r") as file:
            file.visititems(visit)
            check_shapes(shapes, found, str(path))
            for name, dataset in found.items():
                _check_storage(name, dataset)
            return {name: np.asarray(dataset[()], np.float32) for name, dataset in found.items()}
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        msg = f"{path} cannot be read as weights ({error}); it is truncated or no HDF5 file"
        raise BundleError(msg) from error


def _check_storage(name: str, dataset: h5py.Dataset) -> None:
    if dataset.dtype.kind != "f":
        msg = f"{name} is of type {dataset.dtype}, expected floats"
        raise TypeError(msg)
    if dataset.is_virtual or dataset.external:
        msg = f"{name} lies in another file"
        raise ValueError(msg)
