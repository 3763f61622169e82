"""From geometry to Hounsfield units: soft tissue with partial volume, bone as shell and core.

A shell of thickness t seen through a blur of sigma s has, at signed depth d, the shares
`inside = P(d/s)` and `core = P((d - t)/s)` with P the normal distribution function; shell = inside - core.
So a cortex of half a voxel is drawn at its right strength, without a finer grid.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.special import ndtr

from payerseg.domain.grid import Grid
from payerseg.synthesis.bones import Bones
from payerseg.synthesis.scanner import smooth_field
from payerseg.synthesis.surroundings import Surroundings
from payerseg.synthesis.tissues import (
    GUT_IDS,
    LUNG_IDS,
    MUSCLE_IDS,
    Patient,
    Tissue,
    hounsfield_table,
)

Array = np.ndarray
CARTILAGE_GAP_MM = 0.6
_CORE_BY_LABEL = np.interp(
    np.arange(256), [0, 1, 7, 12, 20, 25, 28, 29], [1.2, 1.6, 1.45, 1.2, 1.0, 0.95, 1.0, 1.0]
)
"""Spongy bone is denser the higher it lies (label 28 is T13)."""


def render(
    bones: Bones, around: Surroundings, patient: Patient, blur_mm: float, rng: np.random.Generator
) -> Array:
    """Return float32 HU of a scene.

    Args:
        bones: the vertebrae.
        around: tissue and other bones on the same grid.
        patient: what tissues look like.
        blur_mm: sigma of the partial volume, about half a voxel.
        rng: textures.
    """
    grid = bones.grid
    hu = _soft(around.tissue, grid, patient, blur_mm, rng)
    fine = smooth_field(grid.shape, grid.spacing_mm[::-1], (1.6, 1.1, 1.1), rng)
    broad = smooth_field(grid.shape, grid.spacing_mm[::-1], (9.0, 7.0, 7.0), rng)
    gap = np.minimum(around.bone_mm, -bones.depth_mm - CARTILAGE_GAP_MM)
    _add_other_bones(hu, gap, (fine, broad), patient, blur_mm)
    _add_vertebrae(hu, bones, (fine, broad), patient, blur_mm)
    return hu


def _soft(
    tissue: Array, grid: Grid, patient: Patient, blur_mm: float, rng: np.random.Generator
) -> Array:
    """Return HU of everything but bone, with textures per kind of tissue."""
    spacing = grid.spacing_mm[::-1]
    hu = hounsfield_table(patient, rng)[tissue]
    mottle = smooth_field(grid.shape, spacing, (6.0, 5.0, 5.0), rng)
    detail = smooth_field(grid.shape, spacing, (4.0, 2.4, 2.4), rng)
    kinds = np.zeros(256, np.uint8)
    kinds[list(LUNG_IDS)] = 1
    kinds[list(MUSCLE_IDS)] = 2
    kinds[[int(Tissue.FAT), int(Tissue.VISCERAL), int(Tissue.EPIDURAL)]] = 3
    kinds[list(GUT_IDS)] = 4
    kind = kinds[tissue]
    at = kind == 1
    hu[at] += 25 * mottle[at] + np.maximum(detail[at] - 1.9, 0) * 650
    at = kind == 2
    hu[at] += 6 * mottle[at] + 5 * detail[at] - _marbling(grid, patient, at, rng)
    at = kind == 3
    strands = np.maximum(detail[at] - 1.2, 0) * 55 + 120 / (1 + np.exp((1.5 - mottle[at]) / 0.25))
    hu[at] += 9 * mottle[at] + strands
    at = kind == 4
    if at.any():
        gas = smooth_field(grid.shape, spacing, (22.0, 16.0, 16.0), rng)[at]
        hu[at] = np.where(gas > 0.7, -900, hu[at] + 10 * detail[at] + 14 * mottle[at])
    return ndimage.gaussian_filter(hu, [max(blur_mm / s, 0.35) for s in spacing]).astype(np.float32)


def _marbling(grid: Grid, patient: Patient, at: Array, rng: np.random.Generator) -> Array:
    """Return how many HU fat takes off muscle voxels: planes between bundles and streaks in them."""
    spacing = grid.spacing_mm[::-1]
    bundles = smooth_field(grid.shape, spacing, (45.0, 15.0, 15.0), rng)[at]
    streaks = smooth_field(grid.shape, spacing, (16.0, 3.4, 3.4), rng)[at]
    fat = patient.muscle_fat
    planes = np.exp(-((bundles / (0.05 + 0.12 * fat)) ** 2))
    inside = 1 / (1 + np.exp(-(streaks + 0.5 * bundles - 2.3 + 2.6 * fat) / 0.3))
    return 130 * np.maximum(0.75 * planes, (0.3 + fat) * inside)


def _add_other_bones(
    hu: Array, depth: Array, fields: tuple[Array, Array], patient: Patient, blur_mm: float
) -> None:
    """Draw ribs, sacrum, skull and the like in place."""
    near = np.nonzero(depth > -3 * blur_mm)
    if not len(near[0]):
        return
    d, fine, broad = depth[near], fields[0][near], fields[1][near]
    core = 0.9 * patient.core_hu + 30 + 0.7 * patient.texture_hu * fine + 45 * broad
    cortex = 0.85 * patient.cortex_hu * (1 + 0.12 * broad)
    hu[near] = _shell(hu[near], d, (patient.cortex_mm + 0.35, cortex, core), blur_mm)


def _add_vertebrae(
    hu: Array, bones: Bones, fields: tuple[Array, Array], patient: Patient, blur_mm: float
) -> None:
    """Draw the vertebrae in place: thin walls, firm endplates, dense arches, spongy cores."""
    near = np.nonzero(bones.depth_mm > -3 * blur_mm)
    if not len(near[0]):
        return
    d, fine, broad = bones.depth_mm[near], fields[0][near], fields[1][near]
    rear = bones.posterior[near].astype(np.float32)
    plate = bones.endplate[near].astype(np.float32)
    thick = patient.cortex_mm * (0.8 + 0.2 * broad) + 0.45 * plate + 1.0 * rear
    thick = np.clip(thick + 1.2 * patient.sclerosis * plate * (broad > 0.4), 0.3, 4.0)
    cortex = (
        patient.cortex_hu
        * (1 + 0.10 * broad + 0.08 * fine)
        * (0.78 + 0.22 * np.maximum(rear, plate))
    )
    region = _CORE_BY_LABEL.astype(np.float32)[bones.labels[near]]
    spongy = patient.core_hu * region + patient.texture_hu * fine + 0.22 * patient.core_hu * broad
    under_plate = 70 * plate + 160 * patient.sclerosis * plate * np.clip(broad, 0, 2)
    core = spongy + under_plate + rear * (90 + 130 * np.clip(broad + 0.4, -0.5, 2))
    hu[near] = _shell(hu[near], d, (thick, cortex, core), blur_mm)


def _shell(
    soft: Array, depth: Array, layers: tuple[Array | float, Array, Array], blur_mm: float
) -> Array:
    """Mix soft tissue, shell (thickness, HU) and core by depth below the surface."""
    thick, cortex, core = layers
    inside = ndtr(depth / np.float32(blur_mm))
    deep = ndtr((depth - thick) / np.float32(blur_mm))
    return soft * (1 - inside) + cortex * (inside - deep) + core * deep
