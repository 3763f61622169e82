"""Every exception of payerseg: one reason each.

A message says what was found, what was expected and what to do.
Anything that is not a `PayersegError` is a bug and is shown as one.
"""


class PayersegError(Exception):
    """Base of all foreseen failures; never raised itself.

    `kind` is the stable, machine-readable name used in events, statuses and summaries.
    """

    kind = "error"


# --- what the user chose ------------------------------------------------------------------------


class ConfigError(PayersegError):
    """A setting is unknown, of the wrong type, or out of range."""

    kind = "config"


class UsageError(PayersegError):
    """Inputs or options on the command line contradict each other or name nothing."""

    kind = "usage"


# --- the user's scan ----------------------------------------------------------------------------


class InputError(PayersegError):
    """A scan cannot be used as it is."""

    kind = "input"


class UnreadableScan(InputError):
    """The file cannot be decoded: corrupt, truncated, empty, or not an image at all."""

    kind = "unreadable"


class NotAThreeDimensionalScan(InputError):
    """The image is 2D, true 4D, or has several values per voxel."""

    kind = "not_3d"


class NotHounsfield(InputError):
    """The intensities are not plausibly Hounsfield units."""

    kind = "not_hounsfield"


class BadGeometry(InputError):
    """The header's grid is unusable: zero spacing, singular directions, no extent."""

    kind = "bad_geometry"


class SpineNotFound(PayersegError):
    """The scan holds no spine that the network is sure of; a result, not a fault of the scan."""

    kind = "no_spine"


# --- weights ------------------------------------------------------------------------------------


class BundleError(PayersegError):
    """A model bundle or checkpoint is missing, damaged, or made for another stage."""

    kind = "bundle"


# --- results and processes ----------------------------------------------------------------------


class ArtifactError(PayersegError):
    """A declared result is missing, unreadable, or was not declared."""

    kind = "artifact"


class ProtocolError(PayersegError):
    """A stage process and its driver do not understand each other."""

    kind = "protocol"


class OutOfResources(PayersegError):
    """Memory or disk ran out; says which and what would help."""

    kind = "out_of_resources"


# --- training, evaluation, exports --------------------------------------------------------------


class DatasetError(PayersegError):
    """A training or truth data set is laid out or labelled in a way that cannot be used."""

    kind = "dataset"


class TrainingDiverged(PayersegError):
    """The loss of a training is no longer a number."""

    kind = "diverged"


class GridMismatch(PayersegError):
    """Two images that must share a grid do not."""

    kind = "grid_mismatch"


class DownloadError(PayersegError):
    """A requested download failed or its checksum differs."""

    kind = "download"
