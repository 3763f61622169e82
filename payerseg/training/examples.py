"""One training example per number: (packed data, seed, i) always gives the same (x, y).

Stages 1 and 2 draw a block around a vertebra of a packed scan, stage 3 around one packed vertebra.
numpy and scipy only, so that it runs where nothing else is installed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from payerseg.config.model_card import WindowSpec
from payerseg.domain.volume import Volume
from payerseg.preprocess.channels import normalized, with_closeness_maps, with_point_heatmap
from payerseg.preprocess.frames import centred_grid
from payerseg.training.augment import (
    AIR_HU,
    AppearanceRanges,
    ChangesAppearance,
    DrawsWarps,
    WarpRanges,
    apply_appearance,
    draw_warp,
    sample_warped,
    simulate_field_of_view,
)
from payerseg.training.targets import (
    densified,
    head_to_foot,
    line_heatmap,
    reference_spine_heatmap,
    unknown_ends,
    unmarked_places,
)

Array = np.ndarray
N_CHANNELS = 26
# The columns of a stage-2 target row, one row per channel. A row of weight 0 with a place (present 1) is of a
# vertebra that is cut or not marked: only about that place its channel is neither right nor wrong.
Z, Y, X, SIGMA, PRESENT, WEIGHT = range(6)
CERVICAL, UPPER_THORACIC, LOWER_THORACIC, LUMBAR = range(4)


def region_of_channel(channel: int) -> int:
    """Return the sampling region: C1-C6, C7-T5, T6-T12 with T13, lumbar."""
    if channel <= 5:
        return CERVICAL
    if channel <= 11:
        return UPPER_THORACIC
    return LUMBAR if 19 <= channel <= 24 else LOWER_THORACIC


@dataclass(frozen=True, slots=True)
class PackedScan:
    """A scan at the pack's spacing on an axis-aligned LPS grid.

    Attributes:
        name: for messages.
        ct: (z, y, x) int16 HU, isotropic.
        marks: (n, 4) rows of channel, x, y, z mm.
        partial: channels of vertebrae that are visible but not marked; their loss is masked.
        group: draws pick a group first (e.g. "real", "synthetic").
        ribs: (n, 2) `domain.levels.Rib` left and right of each mark, NaN where nothing is told; None
            where nothing is told of any.
        sacrum_mm: (3,) centre of S1, where it is marked.
    """

    name: str
    ct: Volume
    marks: Array
    partial: tuple[int, ...] = ()
    group: str = "real"
    ribs: Array | None = None
    sacrum_mm: Array | None = None

    @property
    def hu(self) -> Array:
        """The voxels, (z, y, x) int16."""
        return self.ct.array

    @property
    def origin_mm(self) -> Array:
        """LPS of the first voxel's centre, (3,)."""
        return np.array(self.ct.grid.origin_mm)

    @property
    def spacing_mm(self) -> float:
        """Between voxels, along every axis."""
        return self.ct.grid.spacing_mm[0]


@dataclass(frozen=True, slots=True)
class BlockRecipe:
    """How examples of stages 1 and 2 are drawn.

    Attributes:
        shape_zyx: voxels of the network input.
        spacing_mm: of the network.
        window: intensities.
        warp, appearance: augmentation.
        sigma_mm: Gaussian sigma for each of the 26 channels.
        slab_p, slab_mm: chance and heights of a simulated short field of view.
        narrow_p, narrow_mm: chance and half-widths of a simulated crop around the spine.
        round_p, round_mm: chance and radii of a round field of view.
        cut_margin_mm: a vertebra whose centre is this near a simulated cut is neither target nor zero.
        group_shares: share of draws per `PackedScan.group`.
    """

    shape_zyx: tuple[int, int, int] = (96, 48, 48)
    spacing_mm: float = 3.0
    window: WindowSpec = field(default_factory=WindowSpec)
    warp: WarpRanges | DrawsWarps = field(default_factory=WarpRanges)
    appearance: AppearanceRanges | ChangesAppearance = field(default_factory=AppearanceRanges)
    sigma_mm: tuple[float, ...] = (4.5,) * 7 + (5.0,) * 4 + (6.0,) * 15
    slab_p: float = 0.5
    slab_mm: tuple[float, float] = (50.0, 200.0)
    narrow_p: float = 0.3
    narrow_mm: tuple[float, float] = (20.0, 70.0)
    round_p: float = 0.1
    round_mm: tuple[float, float] = (45.0, 110.0)
    cut_margin_mm: float = 9.0
    group_shares: tuple[tuple[str, float], ...] = (("real", 1.0),)


def vertebrae_example(
    scan: PackedScan, row: int | Array, rng: np.random.Generator, recipe: BlockRecipe
) -> tuple[Array, Array]:
    """Draw a stage-2 example around mark `row`, or around a point (3,) mm.

    Returns:
        x (z, y, x, 1) float32 and y (26, 6) float32: voxel position z, y, x, sigma in voxels,
        present (0/1) and loss weight (0/1) for each channel; `PointHeatmapLoss` makes the Gaussians
        from it.
    """
    hu, marks = warped_block(scan, row, rng, recipe)
    target = np.zeros((N_CHANNELS, 6), np.float32)
    target[:, WEIGHT] = 1
    target[:, SIGMA] = np.asarray(recipe.sigma_mm) / recipe.spacing_mm
    centre = (np.asarray(recipe.shape_zyx) - 1) / 2
    channels = marks[:, 0].astype(int)
    target[channels, Z : X + 1] = marks[:, :0:-1] / recipe.spacing_mm + centre
    target[channels, PRESENT] = 1
    target[list(scan.partial), WEIGHT] = 0
    for channel, point in unmarked_places(scan.partial, marks).items():
        target[channel, Z : X + 1] = point[::-1] / recipe.spacing_mm + centre
        target[channel, PRESENT] = 1
    # as in a real scan: first how the scanner shows the body, then where it ends, with exact air beyond
    beyond = hu <= AIR_HU
    hu = apply_appearance(rng, hu, recipe.appearance, recipe.spacing_mm)
    hu[beyond] = AIR_HU
    visible = simulate_field_of_view(hu, marks, rng, recipe)
    target[channels, PRESENT] *= visible > 0
    target[channels, WEIGHT] *= visible != 0.5
    return normalized(hu, recipe.window)[..., None], target


def spine_example(
    scan: PackedScan, row: int | Array, rng: np.random.Generator, recipe: BlockRecipe
) -> tuple[Array, Array]:
    """Draw a stage-1 example.

    Returns:
        x (z, y, x, 1) float32 and y (z, y, x, 2) float32: the spine heatmap (maximum of Gaussians
        along the line through the marks) and the loss weight, 0 where an unmarked vertebra may lie.
    """
    hu, marks = warped_block(scan, row, rng, recipe)
    line = densified(marks[head_to_foot(marks)][:, 1:])
    sigma = float(np.mean(recipe.sigma_mm))
    axes = [(np.arange(n) - (n - 1) / 2) * recipe.spacing_mm for n in recipe.shape_zyx]
    heat = line_heatmap(axes, line, sigma)
    weight = np.ones_like(heat)
    for end in unknown_ends(scan.partial, marks):
        near = line_heatmap(axes, end, 12.0)
        weight[(near > 0.1) & (heat < 0.5)] = 0
    visible = simulate_field_of_view(hu, marks, rng, recipe)
    if np.any(visible <= 0):
        heat = np.where(hu <= AIR_HU, 0, heat)
    hu = apply_appearance(rng, hu, recipe.appearance, recipe.spacing_mm)
    return normalized(hu, recipe.window)[..., None], np.stack([heat, weight], axis=-1)


def reference_spine_example(
    scan: PackedScan, row: int | Array, rng: np.random.Generator, recipe: BlockRecipe
) -> tuple[Array, Array]:
    """Draw a stage-1 example with the reference's target.

    Returns:
        x (z, y, x, 1) float32 and y (z, y, x, 2) float32: heatmap in [0, 1] and weight 1.
    """
    hu, marks = warped_block(scan, row, rng, recipe)
    centre = (np.asarray(recipe.shape_zyx) - 1) / 2
    index = marks[:, :0:-1] / recipe.spacing_mm + centre
    heat = reference_spine_heatmap(index, recipe.shape_zyx)
    hu = apply_appearance(rng, hu, recipe.appearance, recipe.spacing_mm)
    target = np.stack([heat, np.ones_like(heat)], axis=-1).astype(np.float32)
    return normalized(hu, recipe.window)[..., None], target


def no_spine_example(
    scan: PackedScan, rng: np.random.Generator, recipe: BlockRecipe
) -> tuple[Array, Array]:
    """Draw a stage-1 example in which no spine is seen: a real scan cut down to what lies beside it.

    The part kept is in front of, left or right of the marked spine, or above C1; now and then it is
    nothing but noise around one value (an empty scan, a water phantom).

    Returns:
        x and y as `spine_example`, the heatmap all 0.
    """
    hu, marks = warped_block(scan, int(rng.integers(len(scan.marks))), rng, recipe)
    x, y, z = ((np.arange(n) - (n - 1) / 2) * recipe.spacing_mm for n in hu.shape[::-1])
    low, high = marks[:, 1:].min(axis=0) - 50, marks[:, 1:].max(axis=0) + 50
    above_c1 = marks[marks[:, 0] == 0, 3]
    kind = rng.random()
    if kind < 0.15:
        hu = rng.normal(rng.uniform(-1000, 200), rng.uniform(0, 80), hu.shape).astype(np.float32)
    elif kind < 0.45 and len(above_c1):
        hu[z < above_c1.max() + 28] = AIR_HU
    elif kind < 0.65:
        hu[:, y > low[1] + 5] = AIR_HU
    elif kind < 0.85:
        hu[:, :, x > low[0] - 5] = AIR_HU
    else:
        hu[:, :, x < high[0] + 5] = AIR_HU
    hu = apply_appearance(rng, hu, recipe.appearance, recipe.spacing_mm)
    nothing = np.zeros((*hu.shape, 2), np.float32)
    nothing[..., 1] = 1
    return normalized(hu, recipe.window)[..., None], nothing


def warped_block(
    scan: PackedScan, row: int | Array, rng: np.random.Generator, recipe: BlockRecipe
) -> tuple[Array, Array]:
    """Return HU of the block and the marks (channel, x, y, z mm from the block's centre)."""
    extent = np.asarray(recipe.shape_zyx[::-1]) * recipe.spacing_mm
    warp = draw_warp(rng, recipe.warp, extent)
    centre = scan.marks[row, 1:] if isinstance(row, int | np.integer) else np.asarray(row)
    lattice = warp.map_lattice(recipe.shape_zyx, recipe.spacing_mm)
    hu = sample_warped(scan.ct, lattice, centre)
    marks = scan.marks.copy()
    marks[:, 1:] = warp.map_points_back(marks[:, 1:] - centre)
    return hu, marks


@dataclass(frozen=True, slots=True)
class PackedVertebra:
    """One vertebra of a masked scan, cut out generously.

    Attributes:
        name: scan and level.
        ct: (z, y, x) int16 HU, isotropic, the world's origin in the middle of the block.
        labels: (z, y, x) uint8 VerSe labels.
        label: the vertebra wanted.
        centre_mm: (3,) its landmark x, y, z from the block's centre.
        region: of `region_of_channel`.
        group: draws pick a group first.
        marks: (n, 4) rows of channel and x, y, z mm from the block's centre, of all vertebrae.
    """

    name: str
    ct: Volume
    labels: Array
    label: int
    centre_mm: Array
    region: int
    group: str = "real"
    marks: Array | None = None


@dataclass(frozen=True, slots=True)
class CropRecipe:
    """How stage-3 examples are drawn.

    Attributes:
        shape_zyx: voxels of the block; may be smaller than at inference, as the network is
            convolutional and a smaller block trains faster.
        spacing_mm, offset_mm, sigma_mm, window: as on the model card.
        heat_reach_sigmas: where the point heatmap ends.
        warp, appearance: augmentation.
        point_jitter_mm: SD of the landmark's error.
        block_jitter_mm: largest shift (x, y, z) of the block about its place, so that small blocks see
            all parts of a vertebra.
        cut_p: chance of a field of view that ends within the block.
        group_shares: share of draws per `PackedVertebra.group`.
    """

    shape_zyx: tuple[int, int, int] = (80, 96, 112)
    spacing_mm: float = 1.0
    offset_mm: tuple[float, float, float] = (0.0, 20.0, 0.0)
    sigma_mm: float = 6.0
    heat_reach_sigmas: float = np.inf
    window: WindowSpec = field(default_factory=WindowSpec)
    warp: WarpRanges | DrawsWarps = field(
        default_factory=lambda: WarpRanges(
            rotation_rad=(0.3, 0.25, 0.25),
            wide_p=0.1,
            scale=(0.85, 1.2),
            shift_mm=(0.0, 0.0, 0.0),
            elastic_mm=3.0,
            flip_p=(0.5, 0.05, 0.0),
        )
    )
    appearance: AppearanceRanges | ChangesAppearance = field(default_factory=AppearanceRanges)
    point_jitter_mm: float = 2.0
    block_jitter_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    cut_p: float = 0.2
    group_shares: tuple[tuple[str, float], ...] = (("real", 1.0),)


def vertebra_example(
    item: PackedVertebra, rng: np.random.Generator, recipe: CropRecipe
) -> tuple[Array, Array]:
    """Draw a stage-3 example.

    Returns:
        x (z, y, x, 2) float32: image and point heatmap; y (z, y, x, 1) float32: this vertebra, 0/1.
    """
    grid = centred_grid((0, 0, 0), recipe.shape_zyx[::-1], recipe.spacing_mm)
    warp = draw_warp(rng, recipe.warp, np.asarray(grid.shape[::-1]) * recipe.spacing_mm)
    point = item.centre_mm + rng.normal(0, recipe.point_jitter_mm, 3)
    # Where the point lies in the block.
    anchor = rng.uniform(-1, 1, 3) * recipe.block_jitter_mm - recipe.offset_mm
    about = point - warp.map_points(anchor[None])[0]
    lattice = warp.map_lattice(grid.shape, recipe.spacing_mm)
    hu = sample_warped(item.ct, lattice, about)
    wanted = item.ct.with_array((item.labels == item.label).astype(np.float32))
    mask = sample_warped(wanted, lattice, about) > 0.5
    if rng.random() < recipe.cut_p:
        _cut_scan(hu, mask, rng)
    hu = apply_appearance(rng, hu, recipe.appearance, recipe.spacing_mm)
    image = Volume(normalized(hu, recipe.window), grid)
    x = with_point_heatmap(image, tuple(anchor), recipe.sigma_mm, recipe.heat_reach_sigmas)
    return x.array, mask[..., None].astype(np.float32)


def labels_example(
    item: PackedVertebra, rng: np.random.Generator, recipe: CropRecipe, n_maps: int = 25
) -> tuple[Array, Array]:
    """Draw an example of all classes at once.

    Returns:
        x (z, y, x, 1 + n_maps) float32: image and one closeness map per level; y (z, y, x, 1)
        float32: class numbers, 0 = background, 1 + channel.
    """
    grid = centred_grid((0, 0, 0), recipe.shape_zyx[::-1], recipe.spacing_mm)
    warp = draw_warp(rng, recipe.warp, np.asarray(grid.shape[::-1]) * recipe.spacing_mm)
    anchor = rng.uniform(-1, 1, 3) * recipe.block_jitter_mm - recipe.offset_mm
    about = np.asarray(item.centre_mm) - warp.map_points(anchor[None])[0]
    lattice = warp.map_lattice(grid.shape, recipe.spacing_mm)
    hu = sample_warped(item.ct, lattice, about)
    labels = sample_warped(item.ct.with_array(item.labels), lattice, about, order=0)
    marks = np.zeros((0, 4)) if item.marks is None else item.marks
    points = warp.map_points_back(marks[:, 1:] - about)
    points = points + rng.normal(0, recipe.point_jitter_mm, points.shape)
    hu = apply_appearance(rng, hu, recipe.appearance, recipe.spacing_mm)
    image = Volume(normalized(hu, recipe.window), grid)
    x = with_closeness_maps(image, marks[:, 0], points, n_maps)
    # VerSe labels 1..25 are channel + 1, the class number; T13 and the sacrum have no class here.
    classes = np.where(labels <= n_maps, labels, 0).astype(np.float32)
    return x.array, classes[..., None]


def _cut_scan(hu: Array, mask: Array, rng: np.random.Generator) -> None:
    """Blank one side beyond a plane that may graze the vertebra, in place."""
    axis = int(rng.choice(3, p=(0.5, 0.25, 0.25)))
    size = hu.shape[axis]
    keep = int(rng.uniform(0.55, 1.0) * size)
    side = slice(keep, size) if rng.random() < 0.5 else slice(0, size - keep)
    where = tuple(side if a == axis else slice(None) for a in range(3))
    hu[where] = AIR_HU
    mask[where] = False
