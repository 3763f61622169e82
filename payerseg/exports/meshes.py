"""Surfaces of vertebrae as STL, PLY and GLB; needs the extra `mesh`.

Vertices are millimetres in LPS (x to the patient's left, y to the back, z to the head) in the
physical space of the scan. glTF has metres and y up by its own rule; the numbers in a GLB are kept
in LPS mm like in the other two, so that all three lie on the scan, and its `extras` say so.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import trimesh
from scipy import ndimage
from skimage import measure as sk_measure

from payerseg.domain.colors import color_of
from payerseg.domain.grid import Grid
from payerseg.domain.vertebra import Vertebra
from payerseg.domain.volume import Volume
from payerseg.exports.case_result import CaseResult, TellFailed, each_case

SMOOTHING_MM = 0.7
"""Sigma of the Gaussian that takes the steps off a mask; details below about 1.5 mm go with them."""
TAUBIN_ROUNDS = 10
SPACE_NOTE = "LPS, millimetres, physical space of the scan"
MIN_VOXELS = 8
_MARGIN_VOXELS = 4
_STL_HEADER = 80


def export_meshes(
    cases: Iterable[CaseResult], folder: Path, tell_failed: TellFailed | None = None
) -> list[Path]:
    """Write `<case>/stl/L1.stl`, `<case>/ply/L1.ply` and `<case>/<case>.glb` with all vertebrae.

    It goes on past a case that cannot be written as `each_case` does.

    Returns:
        The written files.
    """

    def one(case: CaseResult) -> list[Path]:
        written, labels = [], case.read_labels()
        scene = trimesh.Scene(metadata={"space": SPACE_NOTE})
        for vertebra in Vertebra:
            mesh = mesh_of(labels, vertebra.verse_label)
            if mesh is None:
                continue
            place = folder / case.case_id
            written.append(_write(as_stl(mesh), place / "stl" / f"{vertebra.name}.stl"))
            written.append(_write(as_ply(mesh), place / "ply" / f"{vertebra.name}.ply"))
            scene.add_geometry(mesh, node_name=vertebra.name, geom_name=vertebra.name)
        if scene.geometry:
            path = folder / case.case_id / f"{case.case_id}.glb"
            written.append(_write(scene.export(file_type="glb"), path))
        return written

    return each_case(cases, one, tell_failed)


def as_stl(mesh: trimesh.Trimesh) -> bytes:
    """Return a binary STL whose header says `SPACE=LPS`, which 3D Slicer reads."""
    header = b"payerseg, mm, SPACE=LPS".ljust(_STL_HEADER)
    return header + mesh.export(file_type="stl")[_STL_HEADER:]


def as_ply(mesh: trimesh.Trimesh) -> bytes:
    """Return a binary PLY with colours and a comment `SPACE=LPS`."""
    first, second, rest = mesh.export(file_type="ply").split(b"\n", 2)
    return b"\n".join([first, second, b"comment payerseg, mm, SPACE=LPS", rest])


def mesh_of(labels: Volume, label: int) -> trimesh.Trimesh | None:
    """Return the smoothed, closed surface of one label in LPS mm, coloured as in the house's table.

    Args:
        labels: (z, y, x) label map on any grid.
        label: VerSe label.

    Returns:
        A mesh with outward faces; None for a label of fewer than eight voxels.
    """
    where = np.argwhere(labels.array == label)
    if len(where) < MIN_VOXELS:
        return None
    start, stop = where.min(axis=0), where.max(axis=0) + 1
    mask = labels.array[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] == label
    soft = _soft(np.pad(mask, _MARGIN_VOXELS), labels.grid.spacing_mm[::-1])
    if soft.max() <= 0.5:  # a sheet thinner than the smoothing
        soft = np.pad(mask, _MARGIN_VOXELS).astype(np.float32)
    zyx, faces, _, _ = sk_measure.marching_cubes(soft, 0.5)
    vertices = labels.grid.map_indices_to_world(zyx + start - _MARGIN_VOXELS)
    mesh = trimesh.Trimesh(vertices, _outward(faces, labels.grid), process=True)
    trimesh.smoothing.filter_taubin(mesh, iterations=TAUBIN_ROUNDS)
    if mesh.volume < 0:
        mesh.invert()
    mesh.visual.vertex_colors = np.tile([*color_of(label), 255], (len(mesh.vertices), 1))
    mesh.metadata["space"] = SPACE_NOTE
    return mesh


def _soft(mask: np.ndarray, spacing_zyx: tuple[float, ...]) -> np.ndarray:
    sigma = [SMOOTHING_MM / spacing for spacing in spacing_zyx]
    return ndimage.gaussian_filter(mask.astype(np.float32), sigma)


def _outward(faces: np.ndarray, grid: Grid) -> np.ndarray:
    """Turn faces over where (z, y, x) indices and LPS are of opposite hands."""
    step_zyx = grid.matrix[:3, :3][:, ::-1]
    return faces if np.linalg.det(step_zyx) > 0 else faces[:, ::-1]


def _write(content: bytes, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path
