"""P1, P2, P3, P27: the reference's neighbour copies, graph, rules and tables."""

import json

import numpy as np
import pytest
from measured_prior import measure_prior

from payerseg.domain.landmarks import Landmark, Landmarks
from payerseg.domain.vertebra import N_CHANNELS, Vertebra
from payerseg.postprocess.peaks import Candidate
from payerseg.postprocess.spine_graph import (
    PriorEdge,
    ReferenceGraphRule,
    SpinePrior,
    best_per_channel,
    decode_reference,
    inside_ends,
    neighbour_copies,
    reference_table,
    reshifted,
    shortest_path,
)


@pytest.fixture(scope="module")
def golden(shared_dir):
    return shared_dir / "reference" / "golden"


@pytest.fixture(scope="module")
def recorded(golden):
    """(index entry, arrays of that case) of all 76 cases."""
    arrays = np.load(golden / "graph_postprocessing.npz")
    index = json.loads((golden / "graph_postprocessing_index.json").read_text())
    cases = {f"{c['index']:03d}": {} for c in index}
    for name in arrays.files:
        case, _, what = name.partition("/")
        if what:
            cases[case][what] = arrays[name]
    return list(zip(index, cases.values(), strict=True))


def recorded_table(golden, name):
    t = np.load(golden / f"graph_tables_{name}.npz")
    rows = zip(t["edges"].tolist(), t["unit"], t["mean"], t["std"], strict=True)
    return SpinePrior(
        tuple(
            PriorEdge(
                Vertebra.from_channel(i),
                Vertebra.from_channel(j),
                tuple(u.tolist()),
                float(m),
                float(s),
            )
            for (i, j), u, m, s in rows
        )
    )


def candidates_of(case):
    rows = zip(case["in_channel"], case["in_coords"], case["in_value"], strict=True)
    return [Candidate(int(c), tuple(p.tolist()), float(v)) for c, p, v in rows]


def coords(found):
    out = np.full((N_CHANNELS, 3), np.nan)
    for channel, item in found.items():
        out[channel] = item.position_mm
    return out


def ends_mm(case):
    return 0.0, float(case["image_size"][2] * case["image_spacing"][2])


def test_p1_neighbour_copies(recorded):
    for entry, case in recorded:
        flat = [item for channel in neighbour_copies(candidates_of(case)) for item in channel]
        assert [item.channel for item in flat] == case["added_channel"].tolist(), entry["name"]
        positions = np.array([item.position_mm for item in flat]).reshape(-1, 3)
        assert np.array_equal(positions.astype(np.float32), case["added_coords"].reshape(-1, 3))
        np.testing.assert_allclose([i.value for i in flat], case["added_value"], rtol=0, atol=1e-7)


def test_p2_p3_path_cost_rules_and_ends(recorded, golden):
    tables = {name: recorded_table(golden, name) for name in ("verse2020", "payerseg")}
    solved = 0
    for entry, case in recorded:
        if entry["error"]:
            continue
        copies = neighbour_copies(candidates_of(case))
        found, cost = shortest_path(copies, tables[entry["tables"]])
        assert cost == pytest.approx(float(case["cost"]), abs=1e-4), entry["name"]
        moved = reshifted(found)
        kept = inside_ends(moved, ends_mm(case), ReferenceGraphRule().top_bottom_mm)
        for step, name in ((found, "graph"), (moved, "reshift"), (kept, "final")):
            np.testing.assert_array_equal(coords(step), case[f"{name}_coords"], entry["name"])
        solved += 1
    assert solved == 75


def test_p3_best_per_channel_is_the_answer_without_the_graph(recorded):
    for entry, case in recorded:
        best = best_per_channel(candidates_of(case))
        np.testing.assert_array_equal(coords(best), case["nopp_coords"], entry["name"])


def test_p3_without_candidates_the_fallback_answers(recorded):
    (entry, case), *others = [(e, c) for e, c in recorded if e["error"]]
    assert not others
    assert entry["name"] == "empty"
    assert len(decode_reference(candidates_of(case)).landmarks) == int(case["final_valid"].sum())


def test_the_whole_reference_decoder_equals_its_steps(recorded):
    _, case = recorded[0]
    decision = decode_reference(candidates_of(case), z_range_mm=ends_mm(case))
    marks = decision.landmarks
    assert {v.channel for v in marks} == set(np.flatnonzero(case["final_valid"]).tolist())
    for vertebra, mark in marks.items():
        assert mark.position_mm == pytest.approx(case["final_coords"][vertebra.channel], abs=1e-4)


def test_p27_the_committed_reference_table_is_the_recorded_one(golden):
    recorded_edges = {(e.upper, e.lower): e for e in recorded_table(golden, "verse2020").edges}
    committed = reference_table().edges
    assert len(committed) == len(recorded_edges) == 28
    for edge in committed:
        twin = recorded_edges[edge.upper, edge.lower]
        assert edge.unit_xyz == pytest.approx(twin.unit_xyz, abs=1e-7)
        assert (edge.distance_mm, edge.sd_mm) == pytest.approx(
            (twin.distance_mm, twin.sd_mm), abs=1e-5
        )


def test_p27_tables_are_measured_from_landmarks(golden, shared_dir):
    """The shared positions are rounded to 1e-3 mm, the recorded tables come from unrounded ones."""
    file = shared_dir / "data" / "verse_landmarks" / "landmarks_verse.json"
    scans = json.loads(file.read_text())["2020"]["coords"].values()
    landmarks = [
        Landmarks(Landmark(Vertebra[name], tuple(point)) for name, point in scan.items())
        for scan in scans
    ]
    measured = {(e.upper, e.lower): e for e in measure_prior(landmarks).edges}
    for twin in recorded_table(golden, "verse2020").edges:
        edge = measured[twin.upper, twin.lower]
        assert edge.unit_xyz == pytest.approx(twin.unit_xyz, abs=1e-4)
        assert edge.distance_mm == pytest.approx(twin.distance_mm, abs=1e-3)
        assert edge.sd_mm == pytest.approx(twin.sd_mm, abs=1e-3)
