"""Ground truth in every form the command takes."""

import json

import numpy as np
import pytest

from payerseg.domain.vertebra import Vertebra
from payerseg.errors import DatasetError, UsageError
from payerseg.evaluation.truth import TruthRules, find_truth, read_groups, read_truth
from payerseg.imaging.files import write_volume
from payerseg.imaging.orient import axis_codes

RULES = TruthRules()


def only(root, rules=RULES, with_labels=True):
    (where,) = find_truth(root, rules).values()
    return read_truth(where, rules, with_labels=with_labels)


def assert_near(found, expected, mm):
    assert list(found) == list(expected)
    assert np.abs(found.positions_mm - expected.positions_mm).max() <= mm


def test_label_maps_only(tmp_path, bodies):
    write_volume(bodies[0], tmp_path / "a_seg.nii.gz")
    truth = only(tmp_path)
    assert_near(truth.landmarks, bodies[1], 2.5)
    assert np.array_equal(truth.labels.array, bodies[0].array)
    assert {Vertebra.T12, Vertebra.L4} <= truth.unmarked


def test_catalog(tmp_path, bodies, tools):
    labels, marks = bodies
    (tmp_path / "CATALOG.csv").write_text(
        "name,folder,split,source,licence\na,ct,val,s,l\nb,ct,train,s,l\nc,ct,val,s,l\n"
    )
    (tmp_path / "masks").mkdir()
    write_volume(labels, tmp_path / "masks" / "a_seg.nii.gz")
    for case in "ab":
        tools.write_lps_json(tmp_path / "landmarks" / f"{case}.json", marks, ["L4"])
    assert list(find_truth(tmp_path, RULES)) == ["a", "b"]
    truth = only(tmp_path, TruthRules(split="val"))
    assert_near(truth.landmarks, marks, 1e-6)
    assert truth.unmarked == {Vertebra.L4}
    assert truth.scan_grid.same_space_as(labels.grid)
    assert only(tmp_path, TruthRules(split="val"), with_labels=False).labels is None


def test_verse_pair_without_the_scan(tmp_path, bodies):
    labels, marks = bodies
    write_volume(labels, tmp_path / "sub-verse004_seg-vert_msk.nii.gz")
    index = labels.grid.map_world_to_indices(marks.positions_mm)[:, ::-1]
    rows = [{"direction": list(axis_codes(labels.grid))}]
    rows += [
        {"label": v.verse_label, "X": x, "Y": y, "Z": z}
        for v, (x, y, z) in zip(marks, index.tolist(), strict=True)
    ]
    (tmp_path / "sub-verse004_seg-subreg_ctd.json").write_text(json.dumps(rows))
    truth = only(tmp_path, TruthRules(layout="loose"))
    assert truth.case_id == "sub-verse004"
    assert_near(truth.landmarks, marks, 1e-3)


def test_simple_layout(tmp_path, bodies):
    for folder in ("images", "landmarks", "segmentations"):
        (tmp_path / folder).mkdir()
    labels, marks = bodies
    write_volume(labels, tmp_path / "images" / "a.nii.gz")
    write_volume(labels, tmp_path / "segmentations" / "a_seg.nii.gz")
    rows = [f"{v.name},{x},{y},{z}" for v, (x, y, z) in zip(marks, marks.positions_mm, strict=True)]
    (tmp_path / "landmarks" / "a.csv").write_text("label,X,Y,Z\n" + "\n".join(rows))
    truth = only(tmp_path)
    assert_near(truth.landmarks, marks, 1e-6)
    assert truth.labels is not None


def test_scan_without_a_spine(tmp_path, bodies, tools):
    empty = bodies[0].with_array(np.zeros_like(bodies[0].array))
    write_volume(empty, tmp_path / "a_seg.nii.gz")
    assert len(only(tmp_path).landmarks) == 0
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x.json").write_text('{"landmarks": {}}')
    assert len(only(tmp_path / "b").landmarks) == 0


def test_no_truth(tmp_path):
    with pytest.raises(DatasetError, match="holds no ground truth"):
        find_truth(tmp_path, RULES)
    with pytest.raises(DatasetError, match="not a folder"):
        find_truth(tmp_path / "x", RULES)


def test_groups(tmp_path):
    table = tmp_path / "groups.csv"
    table.write_text("case,group\na_ct,whole\nb,slab\n")
    assert read_groups(table) == {"a": "whole", "b": "slab"}
    table.write_text("age,case,group\n\n7,a_ct,whole\n")
    assert read_groups(table) == {"a": "whole"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"id,group\n", "expected case,group"),
        (b"", "expected case,group"),
        (b"case,group\na,whole\nb\n", "line 3: 1 cells under 2 columns"),
        (b"case,group\na,whole,x\n", "line 2: 3 cells under 2 columns"),
        (b"case,group\na," + b"f" * 131_073, "cannot be read as a table"),
        (b"case,group\n\xff,x\n", "cannot be read as a table"),
    ],
)
def test_what_is_no_table_of_groups(tmp_path, content, said):
    table = tmp_path / "groups.csv"
    table.write_bytes(content)
    with pytest.raises(UsageError, match=said):
        read_groups(table)
