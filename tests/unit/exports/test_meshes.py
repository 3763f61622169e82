"""Meshes lie where the masks lie, are closed, and keep the volume."""

import json
import struct

import numpy as np
import pytest

from payerseg.domain.colors import COLORS
from payerseg.domain.grid import Grid
from payerseg.domain.vertebra import Vertebra
from payerseg.domain.volume import Volume

trimesh = pytest.importorskip("trimesh")
pytest.importorskip("skimage")

from payerseg.exports.meshes import (  # noqa: E402
    SPACE_NOTE,
    export_meshes,
    mesh_of,
)


def read_binary_stl(path):
    """(n, 3, 3) corners, by the format's own few rules."""
    data = path.read_bytes()
    assert b"SPACE=LPS" in data[:80]
    (count,) = struct.unpack("<I", data[80:84])
    rows = np.frombuffer(data[84:], np.dtype([("f", "<f4", (4, 3)), ("a", "<u2")]), count)
    assert len(data) == 84 + 50 * count
    return rows["f"][:, 1:]


def test_every_vertebra_in_every_format(results, cases, tmp_path):
    written = export_meshes(cases, tmp_path / "mesh")
    _, spine = results
    endings = [p.suffix for p in written]
    assert endings.count(".stl") == endings.count(".ply") == len(spine.landmarks)
    assert endings.count(".glb") == 1
    voxel_ml = abs(np.linalg.det(spine.labels.grid.matrix[:3, :3])) / 1000
    for vertebra, mark in spine.landmarks.items():
        folder = tmp_path / "mesh" / "sub-01_ct"
        corners = read_binary_stl(folder / "stl" / f"{vertebra.name}.stl").astype(float)
        # signed volume and centroid of a closed surface (divergence theorem)
        parts = np.einsum("ij,ij->i", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6
        mask = spine.labels.array == vertebra.verse_label
        assert parts.sum() / 1000 == pytest.approx(mask.sum() * voxel_ml, rel=0.08)
        centroid = (corners.sum(axis=1) / 4 * parts[:, None]).sum(axis=0) / parts.sum()
        true = spine.labels.grid.map_indices_to_world(np.argwhere(mask).mean(axis=0))[0]
        assert centroid == pytest.approx(true, abs=0.3)
        head = (folder / "ply" / f"{vertebra.name}.ply").read_bytes()[:200]
        assert b"comment payerseg, mm, SPACE=LPS" in head
        ply = trimesh.load(folder / "ply" / f"{vertebra.name}.ply")
        assert ply.is_watertight
        assert tuple(ply.visual.vertex_colors[0][:3]) == COLORS[vertebra.verse_label]
        assert np.linalg.norm(np.subtract(mark.position_mm, true)) < 3


def test_glb_holds_named_vertebrae(results, cases, tmp_path):
    path = export_meshes(cases, tmp_path)[-1]
    scene = trimesh.load(path)
    names = [v.name for v in results[1].landmarks]
    assert sorted(scene.geometry) == sorted(names)
    data = path.read_bytes()
    assert data[:4] == b"glTF"
    length = int.from_bytes(data[12:16], "little")
    header = json.loads(data[20 : 20 + length])
    assert set(names) <= {node.get("name") for node in header["nodes"]}
    (noted,) = header["scenes"]
    assert (noted.get("extras") or header["extras"])["space"] == SPACE_NOTE
    low, high = scene.bounds
    points = results[1].landmarks.positions_mm
    assert np.all((points > low) & (points < high))


def test_smoothing_takes_the_steps_off():
    grid = Grid((60, 60, 60), (1.0, 1.0, 1.0))
    where = np.moveaxis(np.indices(grid.shape), 0, -1) - 29.5
    ball = Volume((np.linalg.norm(where, axis=-1) < 20).astype(np.uint8) * 20, grid)
    mesh = mesh_of(ball, 20)
    assert mesh.is_watertight
    radii = np.linalg.norm(mesh.vertices - 29.5, axis=1)
    assert radii.std() < 0.15
    assert mesh.area == pytest.approx(4 * np.pi * 400, rel=0.02)


def test_thin_and_tiny_labels():
    grid = Grid((20, 20, 20), (1.0, 1.0, 1.0))
    sheet = np.zeros(grid.shape, np.uint8)
    sheet[10, 5:15, 5:15] = 20
    assert mesh_of(Volume(sheet, grid), 20).is_watertight
    speck = np.zeros(grid.shape, np.uint8)
    speck[3, 3, 3] = 20
    assert mesh_of(Volume(speck, grid), 20) is None
    assert mesh_of(Volume(speck, grid), Vertebra.L2.verse_label) is None
