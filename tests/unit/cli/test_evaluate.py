"""The command from files to figures."""

import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from payerseg.cli.app import run_guarded
from payerseg.cli.evaluate import SCHEMES, evaluate
from payerseg.datasets import label_schemes
from payerseg.domain.landmarks import Landmark, Landmarks
from payerseg.domain.vertebra import Vertebra
from payerseg.domain.volume import Volume
from payerseg.errors import UsageError
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
    with pytest.raises(UsageError, match="--resample"):
        run(*base)
    assert "Dice" in run(*base, "--resample")


def test_nothing_in_common(folders):
    write_points(folders / "other", "x", Landmarks())
    with pytest.raises(UsageError, match="are the names the same"):
        run(folders / "other", "--truth", folders / "truth")


# --- one bad case of several ---------------------------------------------------------------------


def run_all(capsys, *arguments):
    capsys.readouterr()
    code = run_guarded(evaluate, [str(a) for a in (*arguments, "--no-surfaces")])
    out, err = capsys.readouterr()
    return code, out, err


def as_folder(path, _):
    path.unlink()
    path.mkdir()


def as_link_to_nothing(path, _):
    path.unlink()
    path.symlink_to(path.with_name("gone"))


def as_fractions(path, spine):
    write_volume(spine.labels.with_array(spine.labels.array + np.float32(0.25)), path)


def as_other_grid(path, spine):
    grid = replace(spine.labels.grid, shape=(45, 30, 30), spacing_mm=(4.0, 4.0, 4.0))
    write_volume(Volume(np.ascontiguousarray(spine.labels.array[::2, ::2, ::2]), grid), path)


def beside_a_second_map(path, spine):
    write_volume(spine.labels, path.with_name("b_msk.nii.gz"))


DAMAGES = {
    "unreadable": lambda path, _: path.write_bytes(b"rubbish" * 100),
    "truncated": lambda path, _: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "unknown_labels": lambda path, s: write_volume(
        s.labels.with_array(np.where(s.labels.array, 200, 0).astype(np.uint8)), path
    ),
    "folder": as_folder,
    "link": as_link_to_nothing,
    "fractions": as_fractions,
    "other_grid": as_other_grid,
    "twice": beside_a_second_map,
}
POINTS = {
    "no_json": b"{",
    "deep": b"[" * 100_000,
    "not_utf8": b"\xff\xfe{}",
    "partial_is_a_number": b'{"space": "LPS", "landmarks": {}, "partial": 5}',
    "point_is_a_word": b'{"space": "LPS", "landmarks": {"L1": ["x", 1, 2]}}',
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_one_bad_truth_hinders_no_other_case(folders, spine, capsys, damage):
    (folders / "truth" / "b.json").unlink()
    DAMAGES[damage](folders / "truth" / "b_seg.nii.gz", spine)
    code, out, err = run_all(capsys, folders / "one", "--truth", folders / "truth")
    assert code == 3
    assert "1 (5)" in out, "case a is scored"
    assert "not scored: b: " in err
    assert "Traceback" not in err


@pytest.mark.parametrize("content", POINTS)
def test_one_bad_position_file_hinders_no_other_case(folders, capsys, content):
    (folders / "truth" / "b.json").write_bytes(POINTS[content])
    code, out, err = run_all(capsys, folders / "one", "--truth", folders / "truth")
    assert (code, "1 (5)" in out) == (3, True)
    assert "not scored: b: " in err
    assert "b.json" in err


@pytest.mark.parametrize("damage", sorted(set(DAMAGES) - {"other_grid"}))
def test_one_bad_result_counts_as_missed(folders, spine, capsys, damage):
    (folders / "one" / "b.json").unlink()
    DAMAGES[damage](folders / "one" / "b_seg.nii.gz", spine)
    code, out, err = run_all(capsys, folders / "one", "--truth", folders / "truth")
    assert code == 3
    assert "2 (10)" in out
    assert "wrong: b: missed: T10, T11, T12, L1, L2" in out
    assert "b: counted as missed: " in err
    assert "0 / 1" in out, "said aloud, so not silently wrong"


def test_labels_with_a_slope_are_labels(folders, spine):
    slope = np.nextafter(np.float32(1), np.float32(2))
    sloped = spine.labels.with_array(spine.labels.array.astype(np.float32) * slope)
    assert not np.array_equal(sloped.array, np.rint(sloped.array))
    write_volume(sloped, folders / "one" / "b_seg.nii.gz")
    out = folders / "out"
    run(folders / "one", "--truth", folders / "truth", "-o", out, "--no-surfaces")
    (figures,) = json.loads((out / "summary.json").read_text())["figures"]
    assert figures["dice"]["value"] == 1.0


# --- a file per vertebra -------------------------------------------------------------------------


def test_a_file_per_vertebra(folders, spine, capsys):
    for case, inside in (("a", "."), ("b", "segmentations")):
        folder = folders / "single" / case / inside
        folder.mkdir(parents=True)
        for vertebra in spine.landmarks:
            mask = (spine.labels.array == vertebra.verse_label).astype(np.uint8)
            path = folder / f"vertebrae_{vertebra.name}.nii.gz"
            write_volume(spine.labels.with_array(mask), path)
        write_volume(spine.labels.with_array(mask), folder / "liver.nii.gz")
        write_volume(spine.ct, folder.parent / "ct.nii.gz")
    (folders / "single" / "ct.nii.gz").rename(folders / "single" / "a" / "ct.nii.gz")
    for path in (folders / "truth").glob("*.json"):
        path.unlink()  # ellipsoids have no arch: centres are derived alike on both sides
    out = folders / "out"
    arguments = ("--truth", folders / "truth", "--scheme", "totalsegmentator", "-o", out)
    code, text, err = run_all(capsys, folders / "single", *arguments)
    assert (code, "2 (10)" in text) == (0, True), err
    (figures,) = json.loads((out / "summary.json").read_text())["figures"]
    assert figures["dice"]["value"] == 1.0
    assert figures["all_right"] == 2


# --- grids ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spacing", "moved_mm", "taken"),
    [
        (2.0, 0.44, True),  # rounded: not a quarter of a voxel
        (2.0, 0.55, False),
        (0.1, 0.045, False),  # a fraction of a millimetre, but half a voxel
        (0.1, 0.02, True),
    ],
)
def test_grids_are_held_against_voxels_and_what_is_tolerated_is_said(
    folders, spine, capsys, spacing, moved_mm, taken
):
    grid = replace(spine.labels.grid, spacing_mm=(spacing,) * 3, origin_mm=(0.0, 0.0, 0.0))
    moved = replace(grid, origin_mm=(moved_mm, 0.0, 0.0))
    for case in CASES:
        write_volume(Volume(spine.labels.array, grid), folders / "truth" / f"{case}_seg.nii.gz")
        write_volume(Volume(spine.labels.array, moved), folders / "one" / f"{case}_seg.nii.gz")
    code, _, err = run_all(
        capsys, folders / "one", "--truth", folders / "truth", "-o", folders / "o"
    )
    assert code == (0 if taken else 2), err
    if taken:
        notes = json.loads((folders / "o" / "summary.json").read_text())["notes"]
        assert f"up to {moved_mm / spacing:.2g} voxels off" in notes["a"][0]
        assert notes["a"][0] in err
