"""The data set by the rules of BIDS: names, required fields, one file per name."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from payerseg.domain.colors import COLORS
from payerseg.exports.bids import export_bids
from payerseg.exports.case_result import find_results

NAME = re.compile(
    r"sub-[0-9A-Za-z]+(/ses-[0-9A-Za-z]+)?/anat/sub-[0-9A-Za-z]+(_ses-[0-9A-Za-z]+)?"
    r"(_acq-[0-9A-Za-z]+)?(_run-[0-9]+)?_space-orig_desc-vertebrae_(dseg\.(nii\.gz|json)|ctd\.json)"
)


@pytest.fixture
def data_set(tmp_path, put, synthetic_spine):
    spine = synthetic_spine()
    for case_id in (
        "sub-01_ses-pre_ct",
        "sub-01_ses-post_ct",
        "chest 1",
        "chest-1",
        "sub-02_acq-b",
    ):
        put(tmp_path / "results", case_id, spine.labels, spine.landmarks)
    written = export_bids(find_results(tmp_path / "results").cases, tmp_path / "bids")
    return tmp_path / "bids", written, spine


def test_every_name_is_valid_and_unique(data_set):
    root, written, _ = data_set
    names = [p.relative_to(root).as_posix() for p in written]
    assert len(set(names)) == len(names)
    assert all(NAME.fullmatch(n) for n in names if n.startswith("sub-"))
    assert sum(n.endswith("_dseg.nii.gz") for n in names) == 5
    for name in names:
        if name.startswith("sub-"):
            folder, _, file = name.rpartition("/anat/")
            assert file.startswith(folder.replace("/", "_") + "_")


def test_different_cases_are_different_subjects(data_set):
    root, _, _ = data_set
    with (root / "participants.tsv").open(newline="") as file:
        rows = {r["participant_id"]: r["case_id"] for r in csv.DictReader(file, delimiter="\t")}
    assert rows["sub-chest1"] == "chest 1"
    assert rows["sub-chest12"] == "chest-1"
    assert rows["sub-01"] == "sub-01_ses-post_ct, sub-01_ses-pre_ct"
    assert set(rows) == {p.name for p in root.glob("sub-*")}


def test_description(data_set):
    data = json.loads((data_set[0] / "dataset_description.json").read_text())
    assert {"Name", "BIDSVersion", "DatasetType", "GeneratedBy"} <= set(data)
    assert data["DatasetType"] == "derivative"
    assert data["GeneratedBy"][0]["Name"] == "payerseg"


def test_lookup_table(data_set):
    root, _, spine = data_set
    with (root / "dseg.tsv").open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert list(rows[0]) == ["index", "name", "abbreviation", "color", "mapping"]
    table = {int(r["index"]): r for r in rows}
    for column in ("name", "abbreviation", "color"):
        assert len({r[column] for r in rows}) == len(rows)
    assert all(re.fullmatch("#[0-9a-f]{6}", r["color"]) for r in rows)
    assert tuple(bytes.fromhex(table[20]["color"][1:])) == COLORS[20]
    image = nib.load(next(root.glob("sub-02/anat/*_dseg.nii.gz")))
    values = np.asarray(image.dataobj)
    assert set(np.unique(values)) <= set(table)
    assert np.array_equal(values.T, spine.labels.array)


def test_bids_validator(data_set):
    beside = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    program = shutil.which("bids-validator-deno", path=os.pathsep.join(beside))
    if program is None:
        pytest.skip("bids-validator-deno is not installed (pip install bids-validator-deno)")
    done = subprocess.run(
        [program, "--json", str(data_set[0])],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    issues = json.loads(done.stdout)["issues"]["issues"]
    assert [i for i in issues if i["severity"] == "error"] == []
