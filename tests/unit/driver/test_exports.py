import csv
import json
import math
from dataclasses import replace

import pytest

from payerseg.domain.vertebra import Vertebra
from payerseg.driver import exports
from payerseg.driver.inputs import remembered_cases
from payerseg.driver.settings import RunSettings
from payerseg.results.artifacts import LANDMARKS_CSV, SEGMENTATION, SPINE_BOX
from payerseg.results.fingerprint import HashMemo

TABLE = "label,X,Y,Z,score,flags\nT12,1.5,-2.25,100.125,0.9000,\nL1,1.0,-2.0,70.0,1.0000,edited\n"
STATES = {
    "preparation": {"state": "fresh", "seconds": 1.5, "peak_rss_mb": 80.0},
    "spine_localization": {"state": "done", "seconds": 2.0, "peak_rss_mb": 900.5},
    "vertebrae_localization": {"state": "edited", "seconds": 3.0, "peak_rss_mb": 100.0},
    "vertebrae_segmentation": {"state": "done", "seconds": 4.0, "peak_rss_mb": 100.0},
}


def write_exports(settings, *, judged=True):
    """Write the tables at the end of a run that found what the statuses say, or was of other cases."""
    trouble = []
    cases = [settings.case_folder(case.case_id) for case in remembered_cases(settings.output)]
    statuses = {case.case_id: exports._read_status(case, trouble) for case in cases}
    statuses = {case_id: status for case_id, status in statuses.items() if status.status}
    return exports.write_exports(settings, statuses if judged else {}, HashMemo())


@pytest.fixture
def settings(tmp_path):
    return RunSettings(tmp_path / "out", exports=("flat",))


def make_case(settings, case_id, states=STATES, table=TABLE, status="ok"):
    folder = settings.case_folder(case_id)
    for artifact, text in [
        (SPINE_BOX, json.dumps({"low_mm": [1.0, 2.0, 3.0], "high_mm": [4.0, 5.0, 6.5]})),
        (LANDMARKS_CSV, table),
        (SEGMENTATION, "mask"),
    ]:
        folder.path(artifact).parent.mkdir(parents=True, exist_ok=True)
        folder.path(artifact).write_text(text)
        folder.manifest_path(artifact.step).write_text("{}")
    folder.status_path.write_text(
        json.dumps(
            {
                "case_id": case_id,
                "status": status,
                "run_id": "run",
                "message": "",
                "image": "/in/a.nii",
                "stages": states,
            }
        )
    )
    return folder


def read_reference_landmarks(path):
    """Read as the reference does: id, then 26 points of three numbers, `nan` for none."""
    found = {}
    for line in path.read_text().splitlines():
        case_id, *numbers = line.split(",")
        values = [float(number) for number in numbers]
        found[case_id] = [values[i : i + 3] for i in range(0, len(values), 3)]
    return found


def test_root_tables_have_the_references_format(settings, shared_dir):
    """P25: line by line as example_*.csv, which parse by the same few lines."""
    make_case(settings, "sub-1")
    make_case(settings, "sub-2", table="label,X,Y,Z\nT13,0,0,-1\n")
    write_exports(settings)
    ours, examples = settings.output, shared_dir / "reference" / "golden"
    points = read_reference_landmarks(ours / "landmarks.csv")
    reference = read_reference_landmarks(examples / "example_landmarks.csv")
    assert (
        {len(item) for item in points.values()}
        == {len(item) for item in reference.values()}
        == {26}
    )
    assert points["sub-1"][18] == [1.5, -2.25, 100.125]
    assert points["sub-1"][19] == [1.0, -2.0, 70.0]
    assert all(math.isnan(v) for point in points["sub-1"][:18] for v in point)
    assert points["sub-2"][25] == [0.0, 0.0, -1.0]
    for name in ("bbs.csv", "valid_landmarks.csv"):
        columns = {len(line.split(",")) for line in (ours / name).read_text().splitlines()}
        expected = (examples / f"example_{name}").read_text().splitlines()
        if name == "bbs.csv":
            assert columns == {len(line.split(",")) for line in expected} == {7}
    assert (ours / "valid_landmarks.csv").read_text() == "sub-1,18,19\nsub-2,25\n"
    assert (ours / "bbs.csv").read_text().splitlines()[0] == "sub-1,1.0,2.0,3.0,4.0,5.0,6.5"


def test_the_references_landmarks_come_back_through_our_writer(settings, shared_dir):
    """P25, the other way: their table → our rows → our table: the same numbers."""
    example = shared_dir / "reference" / "golden" / "example_landmarks.csv"
    theirs = read_reference_landmarks(example)
    for case_id, points in theirs.items():
        rows = [
            ",".join([Vertebra.from_channel(i).name, *map(repr, point)])
            for i, point in enumerate(points)
            if not math.isnan(point[0])
        ]
        make_case(settings, case_id, table="\n".join(["label,X,Y,Z", *rows]) + "\n")
    write_exports(settings)
    assert (settings.output / "landmarks.csv").read_text() == example.read_text()
    valid = shared_dir / "reference" / "golden" / "example_valid_landmarks.csv"
    assert (settings.output / "valid_landmarks.csv").read_text() == valid.read_text()


def test_only_true_results_are_exported(settings):
    make_case(settings, "good")
    failed = {**STATES, "vertebrae_localization": {"state": "failed"}}
    make_case(settings, "failed", failed, status="failed_vertebrae_localization_bug")
    no_spine = {name: {"state": "no_spine"} for name in STATES}
    make_case(settings, "empty", no_spine, status="no_spine")
    folder = make_case(settings, "unproven")
    folder.manifest_path(LANDMARKS_CSV.step).unlink()
    write_exports(settings)
    lines = (settings.output / "landmarks.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["good"]
    boxes = (settings.output / "bbs.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in boxes] == ["failed", "good", "unproven"]


def test_one_unreadable_table_is_told_and_hinders_no_other(settings):
    make_case(settings, "a")
    make_case(settings, "b", table="label,X,Y\nL1,1,2\n")
    (trouble,) = write_exports(settings)
    assert "'b' is not in the tables" in trouble
    assert "column Z is missing" in trouble
    lines = (settings.output / "landmarks.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["a"]


def test_the_summary_has_a_line_for_every_case(settings):
    make_case(settings, "a")
    make_case(
        settings, "b", {"preparation": {"state": "failed"}}, status="failed_preparation_input"
    )
    write_exports(settings)
    with (settings.output / "summary.csv").open() as file:
        a, b = csv.DictReader(file)
    assert (a["status"], a["n_vertebrae"], a["first"], a["last"]) == ("ok", "2", "T12", "L1")
    assert (a["seconds"], a["peak_rss_mb"]) == ("10.5", "900.5")
    assert (b["status"], b["n_vertebrae"], b["preparation"]) == (
        "failed_preparation_input",
        "0",
        "failed",
    )


def test_flat_copies(settings):
    make_case(settings, "a")
    write_exports(settings)
    flat = settings.output / "flat"
    assert sorted(path.name for path in flat.iterdir()) == [
        "a_landmarks.csv",
        "a_landmarks.json",
        "a_segmentation.nii.gz",
    ]
    assert (flat / "a_landmarks.csv").read_text().splitlines() == [
        "label,X,Y,Z",
        "19,1.5,-2.25,100.125",
        "20,1.0,-2.0,70.0",
    ]
    first = json.loads((flat / "a_landmarks.json").read_text())[0]
    assert first == {"label": 19, "X": 1.5, "Y": -2.25, "Z": 100.125}


def test_flat_copies_stay_true_in_runs_that_do_not_ask_for_them(settings):
    make_case(settings, "a")
    make_case(settings, "b")
    write_exports(settings)
    flat = settings.output / "flat"
    (flat / "notes.txt").write_text("a person's")
    make_case(settings, "a", table="label,X,Y,Z\nL2,1,2,3\n")
    make_case(settings, "b", {name: {"state": "no_spine"} for name in STATES}, status="no_spine")
    write_exports(replace(settings, exports=()))
    assert (flat / "a_landmarks.csv").read_text().splitlines()[1:] == ["21,1.0,2.0,3.0"]
    assert sorted(path.name for path in flat.iterdir() if path.name[0] != "a") == ["notes.txt"]


def test_no_name_is_a_formula(settings):
    """A spreadsheet would run it."""
    for name in ("=1+1", "@SUM(A1)", "-1", "+1", "plain"):
        make_case(settings, name)
    write_exports(settings)
    for table in ("summary.csv", "bbs.csv", "landmarks.csv", "valid_landmarks.csv"):
        rows = list(csv.reader((settings.output / table).read_text().splitlines()))
        cells = {cell for row in rows for cell in row}
        assert {"'=1+1", "'@SUM(A1)", "'-1", "'+1", "plain"} <= cells
        assert not [cell for cell in cells if cell.startswith(("=", "@"))]
    assert "-2.25" in (settings.output / "landmarks.csv").read_text().split(","), "numbers stay"


def test_what_cannot_be_read_is_told_and_the_other_cases_are_in_the_tables(settings):
    make_case(settings, "a")
    make_case(settings, "b").path(SPINE_BOX).write_text(
        '{"low_mm": [9, 9, 9], "high_mm": [1, 1, 1]}'
    )
    make_case(settings, "c").status_path.write_text("[" * 100_000)
    make_case(settings, "d").path(LANDMARKS_CSV).write_text(
        f"label,X,Y,Z\nL1,1,2,{'3' * 131_073}\n"
    )
    trouble = write_exports(settings)
    assert [text.split(" ")[0] for text in trouble] == ["'c'", "'b'", "'d'"]
    assert (settings.output / "bbs.csv").read_text().count("\n") == 2
    rows = csv.reader((settings.output / "summary.csv").read_text().splitlines())
    ids = [row[0] for row in rows]
    assert ids == ["case_id", "a", "b", "c", "d"]


def test_cases_of_other_runs_are_in_the_tables_only_where_they_hold_together(settings, seal):
    for case_id in ("a", "b"):
        seal(make_case(settings, case_id))
    write_exports(settings, judged=False)
    flat = settings.output / "flat"
    assert {path.name[0] for path in flat.iterdir()} == {"a", "b"}
    table = settings.case_folder("a").path(LANDMARKS_CSV)
    table.write_text(TABLE.replace("L1", "L2"))
    write_exports(settings, judged=False)
    assert {path.name[0] for path in flat.iterdir()} == {"b"}, "old masks under new names"
    lines = (settings.output / "landmarks.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["a", "b"], "the edited table itself is true"
