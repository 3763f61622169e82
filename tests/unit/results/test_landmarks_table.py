"""landmarks.csv, as written and as people leave it."""

import time

import pytest

from payerseg.domain.landmarks import Landmark, Landmarks
from payerseg.domain.vertebra import Vertebra
from payerseg.errors import ArtifactError
from payerseg.results.formats import format_landmarks, parse_landmarks

MARKS = Landmarks(
    [
        Landmark(Vertebra.L1, (1.25, -20.5, 300.125), 0.75, ("bridged", "near_border")),
        Landmark(Vertebra.T13, (-1.0, -0.0, 330.0)),
    ]
)


def test_round_trip():
    text = format_landmarks(MARKS)
    assert text.splitlines() == [
        "label,X,Y,Z,score,flags",
        "T13,-1.000,0.000,330.000,1.0000,",
        "L1,1.250,-20.500,300.125,0.7500,bridged|near_border",
    ]
    assert parse_landmarks(text, "landmarks.csv") == MARKS
    assert format_landmarks(parse_landmarks(text, "landmarks.csv")) == text


def test_no_vertebra_is_a_header_alone():
    assert parse_landmarks(format_landmarks(Landmarks()), "x") == Landmarks()


@pytest.mark.parametrize(
    "text",
    [
        "label,X,Y,Z\nL1,1.25,-20.5,300.125\n",
        "\ufefflabel;X;Y;Z;score;flags\r\nL1;1.25;-20.5;300.125;;\r\n",
        "LABEL\tz\ty\tx\n l1 \t300.125\t-20.5\t1.25\n\n",
        "label, x, y, z\n20, 1.25, -20.5, 300.125\n",
    ],
)
def test_what_editors_do(text):
    marks = parse_landmarks(text, "landmarks.csv")
    assert list(marks) == [Vertebra.L1]
    assert marks[Vertebra.L1] == Landmark(Vertebra.L1, (1.25, -20.5, 300.125))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("label,X,Y\nL1,1,2\n", "column Z is missing"),
        ("label,X,Y,Z\nL9,1,2,3\n", "line 2"),
        ("label,X,Y,Z\nL1,1,2,3\nL2,1,2,\n", "line 3"),
        ("label,X,Y,Z\nL1,1,2\n", "line 2"),
        ("label,X,Y,Z\nL1,1,2,nan\n", "line 2"),
        ("label,X,Y,Z\n26,1,2,3\n", "line 2"),
        ("label,X,Y,Z\nL1,1,2,3\nL1,4,5,6\n", "L1 more than once"),
    ],
)
def test_what_cannot_be_read_is_told(text, reason):
    with pytest.raises(ArtifactError, match=reason):
        parse_landmarks(text, "landmarks.csv")


def test_a_table_of_a_hundred_thousand_rows_is_refused_at_once():
    began = time.process_time()
    with pytest.raises(ArtifactError, match="L1 more than once"):
        parse_landmarks("label,X,Y,Z\n" + "L1,1,2,3\n" * 100_000, "landmarks.csv")
    assert time.process_time() - began < 10
