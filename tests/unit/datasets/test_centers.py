"""Positions from masks: which are believed."""

from pathlib import Path

import numpy as np

from payerseg.datasets.cases import with_centers
from payerseg.datasets.discover import discover, read_case
from payerseg.domain.vertebra import Vertebra
from payerseg.imaging.files import read_volume


def test_masks_of_real_scans(shared_dir: Path) -> None:
    """Derived centres agree with marks made by eye; the manual crops keep all their vertebrae."""
    cases = {case.case_id: case for case in discover(shared_dir / "data").cases}
    files = cases["ts_example"]
    case = read_case(files)
    assert files.labels is not None
    assert case.landmarks is not None
    derived = with_centers(case, read_volume(files.labels))
    assert derived.landmarks is not None
    common = [v for v in derived.landmarks if v in case.landmarks]
    gaps = [
        np.linalg.norm(np.subtract(derived.landmarks[v].position_mm, case.landmarks[v].position_mm))
        for v in common
    ]
    assert len(common) == 6
    assert np.mean(gaps) < 2.5
    assert Vertebra.T10 in derived.partial


def test_a_body_cut_by_a_face_is_partial(shared_dir: Path) -> None:
    cases = {case.case_id: case for case in discover(shared_dir / "data").cases}
    files = cases["verse006"]
    assert files.labels is not None
    labels = read_volume(files.labels)
    whole = with_centers(read_case(files), labels)
    assert whole.landmarks is not None
    assert list(whole.landmarks) == [Vertebra.L4, Vertebra.L5]
    assert whole.partial == {Vertebra.L3}
    through_l4 = labels.grid.map_world_to_indices([whole.landmarks[Vertebra.L4].position_mm])[0]
    stop = (int(through_l4[0]) + 4, *labels.grid.shape[1:])
    cut = with_centers(read_case(files), labels.cropped((0, 0, 0), stop))
    assert cut.landmarks is not None
    assert list(cut.landmarks) == [Vertebra.L5]
    assert cut.partial == {Vertebra.L3, Vertebra.L4}
