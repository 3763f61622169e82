"""Fixtures for every test: where shared data lies, and a spine whose truth is known.

The synthetic spine is a CT of ellipsoids on any grid, so that a test of geometry knows the answer.
It is not meant to look real; `payerseg.synthesis` is for that.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from payerseg.domain.grid import Grid
from payerseg.domain.landmarks import Landmark, Landmarks
from payerseg.domain.vertebra import Vertebra
from payerseg.domain.volume import Volume

REPOSITORY = Path(__file__).resolve().parents[1]
AIR_HU, TISSUE_HU, BONE_HU = -1000.0, 40.0, 350.0
CODED_HU, CODED_STEP_HU = 240.0, 40.0


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the clone."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of data shared between projects; tests that need it are skipped without it."""
    folder = Path(os.environ.get("PAYERSEG_SHARED", REPOSITORY.parent / "shared"))
    if not (folder / "reference").is_dir():
        pytest.skip(f"no shared data at {folder}; set PAYERSEG_SHARED to run this test")
    return folder


@dataclass(frozen=True)
class SyntheticSpine:
    """A scan and its truth.

    Attributes:
        ct: int16 HU.
        labels: uint8 VerSe labels on the same grid.
        landmarks: the ellipsoids' centres whose voxels lie in the scan.
    """

    ct: Volume
    labels: Volume
    landmarks: Landmarks


def plain_grid(spacing_mm=(2.0, 2.0, 2.0), extent_mm=(120.0, 120.0, 180.0)) -> Grid:
    """An upright LPS grid around the world's origin."""
    shape = tuple(round(e / s) for e, s in zip(extent_mm, spacing_mm, strict=True))[::-1]
    origin = tuple(-(n - 1) / 2 * s for n, s in zip(shape[::-1], spacing_mm, strict=True))
    return Grid(shape, spacing_mm, origin)


def rotated_grid(grid: Grid, angle_rad: float, axis: int = 0) -> Grid:
    """The same grid turned about one world axis through the world's origin."""
    c, s = np.cos(angle_rad), np.sin(angle_rad)
    turn = np.eye(4)
    i, j = [k for k in range(3) if k != axis]
    turn[i, i], turn[i, j], turn[j, i], turn[j, j] = c, -s, s, c
    return Grid.from_matrix(grid.shape, turn @ grid.matrix)


def sheared_grid(grid: Grid, slope: float = 0.2) -> Grid:
    """The same grid with slices that slide along y, as by gantry tilt."""
    matrix = grid.matrix
    matrix[1, 2] += slope * grid.spacing_mm[2]
    return Grid.from_matrix(grid.shape, matrix)


GRIDS = {
    "plain": plain_grid,
    "oblique": lambda: rotated_grid(rotated_grid(plain_grid(), 0.3, 0), -0.2, 2),
    "anisotropic": lambda: plain_grid((1.5, 1.5, 4.0)),
    "sheared": lambda: sheared_grid(plain_grid()),
    "far_origin": lambda: Grid((90, 60, 60), (2.0, 2.0, 2.0), (812.5, -1430.25, 2210.0)),
}


@pytest.fixture(scope="session")
def synthetic_grids():
    """Name → function that makes a grid: plain, oblique, anisotropic, sheared, far_origin."""
    return GRIDS


@pytest.fixture(params=sorted(GRIDS))
def any_grid(request) -> Grid:
    """One grid after the other: plain, oblique, anisotropic, sheared, far from zero."""
    return GRIDS[request.param]()


def spacing_to_next_mm(vertebra: Vertebra) -> float:
    """Distance to the next lower centre: 16 mm at C1 to 34 mm at L5, roughly as in people."""
    return 16.0 + 18.0 * min(vertebra.rank, 23) / 23


def coded_hu(vertebra: Vertebra) -> float:
    """A brightness of its own for every level, so that networks set by hand can name them."""
    return CODED_HU + CODED_STEP_HU * vertebra.rank


def make_synthetic_spine(
    grid: Grid | None = None,
    first: str = "T10",
    last: str = "L2",
    noise_hu: float = 8.0,
    seed: int = 0,
    coded: bool = False,
) -> SyntheticSpine:
    """Draw the vertebrae `first`..`last` (no T13) around the centre of `grid`.

    `coded` gives every level the brightness that `handmade_weights` knows it by.
    """
    grid = grid if grid is not None else plain_grid()
    chain = [v for v in Vertebra if Vertebra[first].rank <= v.rank <= Vertebra[last].rank]
    chain = [v for v in chain if v is not Vertebra.T13]
    centers = _curve(chain, grid)
    points = grid.map_indices_to_world(np.indices(grid.shape).reshape(3, -1).T)
    hu = np.full(len(points), AIR_HU)
    middle = grid.map_indices_to_world((np.array([grid.shape]) - 1) / 2)[0]
    body = ((points[:, :2] - middle[:2]) / (52.0, 42.0)) ** 2
    hu[body.sum(axis=1) < 1] = TISSUE_HU
    labels = np.zeros(len(points), np.uint8)
    for vertebra, center in zip(chain, centers, strict=True):
        radii = (17.0, 14.0, 0.42 * spacing_to_next_mm(vertebra))
        inside = (((points - center) / radii) ** 2).sum(axis=1) < 1
        hu[inside] = coded_hu(vertebra) if coded else BONE_HU
        labels[inside] = vertebra.verse_label
    hu += np.random.default_rng(seed).normal(0, noise_hu, len(hu))
    present = grid.contains(centers)
    marks = [
        Landmark(v, tuple(c)) for v, c, here in zip(chain, centers, present, strict=True) if here
    ]
    ct = Volume(np.rint(hu).astype(np.int16).reshape(grid.shape), grid)
    return SyntheticSpine(ct, Volume(labels.reshape(grid.shape), grid), Landmarks(marks))


def _curve(chain: list[Vertebra], grid: Grid) -> np.ndarray:
    """(n, 3) centres, head to foot, on a gentle sagittal curve around the grid's centre."""
    steps = np.array([spacing_to_next_mm(v) for v in chain])
    z = -np.concatenate([[0.0], np.cumsum(steps[:-1])])
    z -= z.mean()
    middle = grid.map_indices_to_world((np.array([grid.shape]) - 1) / 2)[0]
    return middle + np.stack([3 * np.sin(z / 90), 12 + 6 * np.cos(z / 70), z], axis=1)


@pytest.fixture(scope="session")
def synthetic_spine():
    """The function `make_synthetic_spine`: grid=None, first="T10", last="L2", noise_hu=8, seed=0."""
    return make_synthetic_spine


@pytest.fixture
def spine() -> SyntheticSpine:
    """The default synthetic spine: T10 to L2 at 2 mm."""
    return make_synthetic_spine()


@pytest.fixture(scope="session")
def handmade_weights(tmp_path_factory) -> dict[str, Path]:
    """Bundles by stage whose networks were not trained but set by hand, for coded synthetic spines.

    Stage 1 marks what is brighter than tissue. Stage 2 knows every level by its brightness: the local
    heatmap of a level marks what is brighter than its band, the spatial one what is darker, and the
    product is the band. Stage 3 marks what is bright and near the given point. They run in a second,
    and what they do can be reasoned about.
    """
    from payerseg.config.model_card import ModelCard, SamplingSpec, SCNetSpec, UNetSpec, WindowSpec
    from payerseg.networks.build import build_network
    from payerseg.networks.bundle import save

    one = {"widths": (1,), "repeats": 1, "style": "simple"}
    levels = [coded_hu(Vertebra.from_channel(k)) / 600 for k in range(26)]
    bands = SCNetSpec(
        local=UNetSpec(**one, outputs=26, head_activation="sigmoid"),
        spatial=UNetSpec(**one, outputs=26),
        pool=1,
        spatial_input="image",
        spatial_activation="sigmoid",
    )
    half = CODED_STEP_HU / 600 / 2
    made = [
        (
            ModelCard(
                "spine_localization",
                UNetSpec(**one, head_activation="sigmoid"),
                SamplingSpec(8.0, multiple=4),
            ),
            {"head": (40.0, [0.2])},
        ),
        (
            ModelCard(
                "vertebrae_localization",
                bands,
                SamplingSpec(3.0, multiple=4, margin_mm=(10.0, 10.0, 10.0)),
                channels=tuple(Vertebra.from_channel(k).verse_label for k in range(26)),
            ),
            {
                "local_head": (200.0, [level - half for level in levels]),
                "spatial_head": (-200.0, [level + half for level in levels]),
            },
        ),
        (
            ModelCard(
                "vertebrae_segmentation",
                UNetSpec(**one, inputs=2, head_activation="sigmoid"),
                SamplingSpec(2.0, multiple=4, size_xyz=(32, 32, 32), window=WindowSpec(high=0.4)),
                output="probability",
            ),
            {"head": (40.0, [0.45])},
        ),
    ]
    root = tmp_path_factory.mktemp("handmade")
    for card, heads in made:
        model = build_network(card.network)
        for variable in model.weights:
            variable.assign(_by_hand(variable.path, tuple(variable.shape), heads))
        save(model, card, root / card.stage)
    return {card.stage: root / card.stage for card, _ in made}


def _by_hand(path: str, shape: tuple[int, ...], heads: dict[str, tuple[float, list[float]]]):
    """Values by which a convolution sums its inputs, and a head is steepness * (sum - threshold)."""
    value = np.zeros(shape, np.float32)
    layer, _, kind = path.partition("/")
    if layer in heads and kind == "kernel":
        value[:] = heads[layer][0]
    elif layer in heads:
        value[:] = -heads[layer][0] * np.array(heads[layer][1])
    elif kind == "kernel":
        value[1, 1, 1] = 1.0
    return value


@pytest.fixture(scope="session")
def training_data(tmp_path_factory) -> Path:
    """Two cases in the remake's own layout: images, landmarks, segmentations, train.txt, val.txt."""
    from payerseg.imaging.files import write_volume

    root = tmp_path_factory.mktemp("training_data")
    for folder in ("images", "landmarks", "segmentations"):
        (root / folder).mkdir()
    for name in ("a", "b"):
        spine = make_synthetic_spine(seed=ord(name), first="T12", last="L1")
        write_volume(spine.ct, root / "images" / f"{name}.nii.gz")
        write_volume(spine.labels, root / "segmentations" / f"{name}_seg.nii.gz")
        rows = [
            ",".join([str(v.verse_label), *(f"{x:.3f}" for x in mark.position_mm)])
            for v, mark in spine.landmarks.items()
        ]
        (root / "landmarks" / f"{name}.csv").write_text("\n".join(["label,X,Y,Z", *rows]) + "\n")
    (root / "train.txt").write_text("a\n")
    (root / "val.txt").write_text("b\n")
    return root
