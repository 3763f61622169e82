"""The Python examples of README and docs run as they are written."""

import re
import shutil
from pathlib import Path

import pytest

from payerseg import api
from payerseg.imaging.files import read_volume, write_volume

REPOSITORY = Path(__file__).resolve().parents[2]
BLOCKS = [
    pytest.param(
        block,
        id=f"{page}-{number}",
        marks=[pytest.mark.slow] if "Trainer(" in block else [],
    )
    for page in ("README.md", "docs/python.md", "docs/two-systems.md")
    for number, block in enumerate(
        re.findall(
            r"```python\n(.*?)```", (REPOSITORY / page).read_text(encoding="utf-8"), re.DOTALL
        )
    )
]


@pytest.fixture
def workplace(tmp_path, monkeypatch, synthetic_spine, handmade_weights, training_data):
    """A folder with the files that the examples name, and quick default weights."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(api, "default_bundle", lambda stage, family: handmade_weights[stage])
    ct = synthetic_spine(coded=True).ct
    (tmp_path / "scans").mkdir()
    for name in ("scan.nii.gz", "a.nii.gz", "b.nii.gz", "scans/c.nii.gz"):
        write_volume(ct, tmp_path / name)
    shutil.copytree(training_data, tmp_path / "data")
    shutil.copytree(handmade_weights["vertebrae_segmentation"], tmp_path / "my" / "bundle")
    return tmp_path


@pytest.mark.parametrize("block", BLOCKS)
def test_the_example_runs(block, workplace):
    names = {}
    exec(compile(block, "example", "exec"), names)
    result = names.get("result")
    if result is not None:
        assert len(result.landmarks) == 5
    if (workplace / "labels.nii.gz").exists():
        written = read_volume(workplace / "labels.nii.gz")
        assert written.grid.same_space_as(read_volume(workplace / "scan.nii.gz").grid)
        assert written.array.any()
