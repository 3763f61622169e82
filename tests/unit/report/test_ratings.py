"""Ratings files: what the page saves is read; the latest word counts; nonsense is refused."""

import pytest

from payerseg.errors import ArtifactError
from payerseg.report.cohort import Rating, merge_ratings, ratings_json, read_ratings


def test_a_round_trip(tmp_path):
    ratings = {"a": Rating("pass", "fine — ok", "2026-01-01T00:00:00.000Z"), "b": Rating("", "?")}
    path = tmp_path / "ratings.json"
    path.write_text(ratings_json(ratings), encoding="utf-8")
    assert read_ratings(path) == ratings


def test_the_latest_rating_counts():
    early, late = Rating("pass", at="2026-01-01"), Rating("fail", at="2026-01-02")
    assert merge_ratings([{"a": early}, {"a": late}]) == {"a": late}
    assert merge_ratings([{"a": late}, {"a": early}]) == {"a": late}
    assert (
        merge_ratings([{"a": early}, {"a": Rating("unsure", at="2026-01-01")}])["a"].rating
        == "unsure"
    )
    assert list(merge_ratings([{"b": early}, {"a": early}])) == ["a", "b"]


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", '{"format": 2, "ratings": {}}', '{"format": 1, "ratings": []}',
        '{"format": 1, "ratings": {"a": {"rating": "great"}}}', '{"format": 1, "ratings": {"a": 1}}',
    ],
)  # fmt: skip
def test_nonsense_is_refused(tmp_path, text):
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises(ArtifactError, match=r"r\.json"):
        read_ratings(path)
