import csv
import json

import pytest

from payerseg.datasets.layouts import simple_cases
from payerseg.domain.levels import Rib
from payerseg.domain.vertebra import Vertebra
from payerseg.errors import DatasetError
from payerseg.imaging.files import read_volume
from payerseg.synthesis.dataset import DatasetFolder, ScanRecipe, gather_library
from payerseg.synthesis.phantom import phantom_library
from payerseg.synthesis.scans import Extent, synthesize_spine


def test_a_scan_is_written_once_and_as_training_reads_it(tmp_path):
    recipe = ScanRecipe("usual", "body", 6.0, 7)
    assert recipe.write(phantom_library(), tmp_path)
    assert not recipe.write(phantom_library(), tmp_path)
    case = "synth_usual_body_000007"
    ct = read_volume(tmp_path / "images" / f"{case}.nii.gz")
    seg = read_volume(tmp_path / "segmentations" / f"{case}_seg.nii.gz")
    assert ct.grid.same_space_as(seg.grid)
    rows = list(csv.DictReader((tmp_path / "landmarks" / f"{case}.csv").read_text().splitlines()))
    assert rows
    assert set(rows[0]) == {"label", "X", "Y", "Z"}
    facts = json.loads((tmp_path / "cases.json").read_text())
    assert facts[case]["source"] == "phantom"


def test_ribs_and_sacrum_are_told_as_training_reads_them(tmp_path):
    extent = Extent(
        (4.0, 4.0, 4.0), side_mm=90, front_mm=50, back_mm=85, above_mm=30, below_mm=65,
        first=Vertebra.T11, last=Vertebra.L5,
    )  # fmt: skip
    scan = synthesize_spine(phantom_library(), 3, "t13", extent)
    DatasetFolder(tmp_path).add("a", scan, "", {})
    found = simple_cases(tmp_path)[0]
    assert set(found.facts.ribs) >= {Vertebra.T11, Vertebra.T12, Vertebra.T13, Vertebra.L1}
    assert found.facts.ribs[Vertebra.L1] == (Rib.NONE, Rib.NONE)
    assert found.facts.sacrum_mm == pytest.approx(scan.sacrum_mm, abs=0.01)


def test_a_negative_has_an_image_and_an_empty_table(tmp_path):
    ScanRecipe("thigh", "body", 5.0, 1).write(phantom_library(), tmp_path)
    assert len(list((tmp_path / "images").iterdir())) == 1
    assert not (tmp_path / "segmentations").exists()
    assert next((tmp_path / "landmarks").iterdir()).read_text() == "label,X,Y,Z\n"


def test_no_path_means_the_phantom():
    assert gather_library([]) is phantom_library()


def test_a_folder_without_label_maps_is_named(tmp_path):
    with pytest.raises(DatasetError, match="itself or one folder below"):
        gather_library([tmp_path])
