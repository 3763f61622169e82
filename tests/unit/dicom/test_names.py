from pathlib import Path

import pytest

from payerseg.dicom.names import distinct_names, series_names


@pytest.mark.parametrize(
    ("series", "names"),
    [
        ([(["a/b/1.dcm"], "3")], ["in"]),
        ([(["p1/1", "p1/2"], "3"), (["p2/x/1"], "3")], ["p1", "p2_x"]),
        ([(["p/1"], "3"), (["p/2"], "4/2")], ["p_series3", "p_series4-2"]),
        ([(["1"], "3"), (["2"], "?"), (["3"], "3")], ["in_series3", "in_seriesX", "in_series3-2"]),
        ([(["ä b/c:d/1"], "1"), (["../../e/2"], "2")], ["b_c_d", "e"]),
        ([(["p/a/1", "p/b/2"], "1"), (["/q/3", "r/4"], "2")], ["p", "in_series2"]),
    ],
)
def test_named_after_folders(series, names, tmp_path):
    root = tmp_path / "in"
    root.mkdir()
    assert series_names(root, series) == names


def test_a_zip_stands_before_what_is_in_it(tmp_path):
    archive = tmp_path / "a b.zip"
    archive.write_bytes(b"")
    assert series_names(archive, [(["x/1"], "1")]) == ["a_b"]
    assert series_names(archive, [(["x/1"], "1"), (["y/1"], "1")]) == ["a_b_x", "a_b_y"]


def test_names_never_meet():
    assert distinct_names(["a", "b", "a", "a"]) == ["a", "b", "a-2", "a-3"]
    assert Path("a-2").name == "a-2"
