"""Tissues and their Hounsfield units.

Ids up to 117 are TotalSegmentator v2 classes; own ids follow from 130. Numbers are rounded from masked
real CTs and textbook ranges; every scan draws its own patient around them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

Array = np.ndarray


class Tissue(IntEnum):
    """Tissues that label maps do not have."""

    AIR = 130
    SKIN = 131
    FAT = 132
    MUSCLE = 133
    VISCERAL = 134
    THECAL = 135
    CORD = 136
    EPIDURAL = 137
    ANNULUS = 138
    NUCLEUS = 139
    CARTILAGE = 140
    ARTERY = 141
    VEIN = 142
    BRAIN = 143
    GAS = 144
    PHARYNX = 145
    GLAND = 146
    WATER = 147
    TABLE = 148
    FOAM = 149
    LUNG = 150


LUNG_IDS = (10, 11, 12, 13, 14, int(Tissue.LUNG))
ARTERY_IDS = (52, 54, 55, 56, 57, 58, 65, 66, int(Tissue.ARTERY))
VEIN_IDS = (53, 59, 60, 62, 63, 64, 67, 68, int(Tissue.VEIN))
MUSCLE_IDS = (*range(80, 90), int(Tissue.MUSCLE))
GUT_IDS = (6, 18, 19, 20)
_ORGANS: dict[int, float] = {
    1: 52, 2: 33, 3: 33, 4: 12, 5: 58, 7: 38, 8: 25, 9: 25, 15: 35, 17: 95, 21: 8, 22: 40, 23: 8,
    24: 8, 51: 45, 61: 45, 79: 36, 90: 34, 117: 110,
}  # fmt: skip
_OWN: dict[int, float] = {
    Tissue.AIR: -1000, Tissue.SKIN: 15, Tissue.FAT: -105, Tissue.MUSCLE: 55, Tissue.VISCERAL: -95,
    Tissue.THECAL: 18, Tissue.CORD: 38, Tissue.EPIDURAL: -60, Tissue.ANNULUS: 100,
    Tissue.NUCLEUS: 78, Tissue.CARTILAGE: 130, Tissue.ARTERY: 45, Tissue.VEIN: 45, Tissue.BRAIN: 34,
    Tissue.GAS: -930, Tissue.PHARYNX: 50, Tissue.GLAND: 45, Tissue.WATER: 0, Tissue.TABLE: -150,
    Tissue.FOAM: -880, Tissue.LUNG: -850,
}  # fmt: skip
CONTRAST_ORGANS = {1: 55, 2: 130, 3: 130, 5: 40, 7: 45, 17: 90, 51: 90}
"""What a contrast agent adds at full strength."""


@dataclass(frozen=True, slots=True)
class Patient:
    """What one patient's tissues look like.

    Attributes:
        core_hu: trabecular bone of the vertebral bodies.
        cortex_hu: compact bone.
        cortex_mm: thickness of the shell of a body.
        texture_hu: SD of the trabecular pattern.
        muscle_fat: share of fat inside muscles, 0..0.5.
        fat_mm: subcutaneous fat.
        contrast_hu: added to arteries (0 = none).
        sclerosis: strength of dense endplates and spots, 0..1.
    """

    core_hu: float
    cortex_hu: float
    cortex_mm: float
    texture_hu: float
    muscle_fat: float
    fat_mm: float
    contrast_hu: float
    sclerosis: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Patient:
        """Draw a patient: with age the core thins, muscles turn to fat and edges harden."""
        age = rng.beta(2.2, 1.6)
        return cls(
            core_hu=float(np.clip(290 - 215 * age + rng.normal(0, 30), 35, 340)),
            cortex_hu=float(rng.uniform(750, 1300)),
            cortex_mm=float(rng.uniform(0.5, 1.2)),
            texture_hu=float(rng.uniform(25, 75)),
            muscle_fat=float(np.clip(0.05 + 0.35 * age * rng.random(), 0, 0.5)),
            fat_mm=float(rng.gamma(3.0, 5.0) + 4.0),
            contrast_hu=float(rng.uniform(80, 320)) if rng.random() < 0.45 else 0.0,
            sclerosis=float(age * rng.random()),
        )


def hounsfield_table(patient: Patient, rng: np.random.Generator) -> Array:
    """Return float32 HU per tissue id (256 entries), with this patient's contrast agent and spread."""
    table = np.full(256, 30.0, np.float32)
    for tissue, value in {**_ORGANS, **_OWN}.items():
        table[int(tissue)] = value + rng.normal(0, 6)
    strength = patient.contrast_hu / 200.0
    for organ, gain in CONTRAST_ORGANS.items():
        table[organ] += gain * strength * rng.uniform(0.5, 1.0)
    muscle = 62 - 40 * patient.muscle_fat + rng.normal(0, 5)
    table[list(MUSCLE_IDS)] = muscle + 12 * strength
    table[list(LUNG_IDS)] = rng.uniform(-900, -780)
    arteries = 45 + patient.contrast_hu
    table[list(ARTERY_IDS)] = arteries
    table[list(VEIN_IDS)] = 45 + patient.contrast_hu * rng.uniform(0.2, 0.8)
    table[16] = -980
    oral = rng.uniform(150, 500) if rng.random() < 0.15 else 0.0
    table[list(GUT_IDS)] = 30 + oral + rng.normal(0, 8)
    return table
