"""The command from files to figures."""

import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from payerseg.cli.evaluate import SCHEMES, evaluate
from payerseg.datasets import label_schemes
from payerseg.domain.landmarks import Landmark, Landmarks
from payerseg.domain.vertebra import Vertebra
from payerseg.domain.volume import Volume
from payerseg.errors import GridMismatch, UsageError
from payerseg.imaging.files import write_volume

CASES = ("a", "b")


def write_points(folder, case, landmarks):
    folder.mkdir(parents=True, exist_ok=True)
    points = {v.name: mark.position_mm for v, mark in landmarks.items()}
    (folder / f"{case}.json").write_text(json.dumps({"space": "LPS", "landmarks": points}))


@pytest.fixture
def folders(tmp_path, spine):
    """Truth and two results: the first perfect, the second 1 mm off and a level off in case b."""
    for case in CASES:
        write_points(tmp_path / "truth", case, spine.landmarks)
        write_volume(spine.labels, tmp_path / "truth" / f"{case}_seg.nii.gz")
        write_points(tmp_path / "one", case, spine.landmarks)
        write_volume(spine.labels, tmp_path / "one" / f"{case}_seg.nii.gz")
        order = [v for v in Vertebra if v is not Vertebra.T13]
        shift = int(case == "b")
        moved = Landmarks(
            Landmark(order[order.index(v) + shift], tuple(np.add(m.position_mm, (1, 0, 0))))
            for v, m in spine.landmarks.items()
        )
        write_points(tmp_path / "two", case, moved)
    return tmp_path


def run(*arguments):
    done = CliRunner().invoke(evaluate, [str(a) for a in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_schemes_are_those_of_the_house():
    assert tuple(label_schemes.SCHEMES) == SCHEMES


def test_figures_and_files(folders):
    out = folders / "out"
    text = run(folders / "one", "--truth", folders / "truth", "-o", out)
    assert "100.0 % [100.0, 100.0]" in text
    assert "2 (10)" in text
    data = json.loads((out / "summary.json").read_text())
    (figures,) = data["figures"]
    assert figures["all_right"] == 2
    assert figures["dice"]["value"] == 1.0
    assert figures["hd95_mm"]["value"] == 0.0
    assert (out / "report.html").read_text().startswith("<!doctype html>")


def test_comparison_and_wrong_scans(folders):
    text = run(
        folders / "one", "--truth", folders / "truth", "--compare", folders / "two", "--no-masks"
    )
    assert "identified" in text
    assert "better / worse / all" in text
    text = run(folders / "two", "--truth", folders / "truth", "--no-masks")
    assert "wrong: b: T10-L2 named +1 levels; missed: T10; extra: L3" in text
    assert "not flagged" in text


def test_groups(folders):
    table = folders / "groups.csv"
    table.write_text("case,group\na,easy\nb,hard\n")
    text = run(folders / "two", "--truth", folders / "truth", "--no-masks", "--groups", table)
    heads = [line.split() for line in text.splitlines()]
    assert ["easy", "hard", "all"] in heads


def test_what_is_absent_is_named_or_counted(folders):
    (folders / "one" / "b.json").unlink()
    (folders / "one" / "b_seg.nii.gz").unlink()
    write_points(folders / "one", "z", Landmarks())
    base = (folders / "one", "--truth", folders / "truth", "--no-surfaces")
    text = run(*base)
    assert "not scored: 2 cases (b, z)" in text
    assert "1 (5)" in text
    text = run(*base, "--all-truth")
    assert "missed: T10, T11, T12, L1, L2" in text
    assert "2 (10)" in text


def test_only_case(folders):
    assert "1 (5)" in run(
        folders / "one", "--truth", folders / "truth", "--no-masks", "--only-case", "b"
    )


def test_other_grid_needs_resample(folders, spine):
    grid = replace(spine.labels.grid, shape=(45, 30, 30), spacing_mm=(4.0, 4.0, 4.0))
    coarse = Volume(np.ascontiguousarray(spine.labels.array[::2, ::2, ::2]), grid)
    for case in CASES:
        write_volume(coarse, folders / "one" / f"{case}_seg.nii.gz")
    base = (folders / "one", "--truth", folders / "truth", "--no-surfaces")
    with pytest.raises(GridMismatch, match="--resample"):
        run(*base)
    assert "Dice" in run(*base, "--resample")


def test_nothing_in_common(folders):
    write_points(folders / "other", "x", Landmarks())
    with pytest.raises(UsageError, match="are the names the same"):
        run(folders / "other", "--truth", folders / "truth")
