from pathlib import Path

import pytest

from payerseg.domain.series_reference import SeriesReference
from payerseg.errors import UnreadableScan

REFERENCE = SeriesReference(
    Path("/in/p1"), ("a/1.dcm", "caf\udce9.dcm"), {"a/1.dcm": (1, 2)}, "the thinnest"
)


def test_a_reference_comes_back(tmp_path):
    path = tmp_path / "x.dicomseries"
    path.write_text(REFERENCE.to_json(), encoding="ascii")
    assert SeriesReference.read(path) == REFERENCE


@pytest.mark.parametrize(
    "name", ["../secret.dcm", "/etc/passwd", "a/../../b", "a\\..\\..\\b", "n\0"]
)
def test_members_stay_below_their_source(tmp_path, name):
    path = tmp_path / "x.dicomseries"
    path.write_text(SeriesReference(Path("/in/p1"), ("1.dcm", name)).to_json())
    with pytest.raises(UnreadableScan, match="not below /in/p1"):
        SeriesReference.read(path)


@pytest.mark.parametrize(
    "text", ["", "[]", "[" * 100_000, '{"format": 2}', '{"format": 1, "source": 5, "members": []}']
)
def test_what_is_no_reference_is_told(tmp_path, text):
    (tmp_path / "x.dicomseries").write_text(text)
    with pytest.raises(UnreadableScan, match=r"x\.dicomseries.*run 'payerseg run'"):
        SeriesReference.read(tmp_path / "x.dicomseries")
    with pytest.raises(UnreadableScan):
        SeriesReference.read(tmp_path / "absent.dicomseries")
