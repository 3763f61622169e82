"""Compare the decoders on simulated network answers: `python benchmarks/decoder.py [--spines FILE]`.

Prints per scenario: part of the vertebrae named right (within 20 mm), false vertebrae per scan, scans
with any wrong name, how many of these carry a review flag, and how many right scans carry one too.
Without --spines the truth is drawn from the spine prior and no data is needed.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from spine_simulator import (
    Case,
    Failures,
    Truth,
    draw_spine,
    noise_case,
    only_peaks,
    read_spines,
    simulate,
    slab,
    transformed,
    whole,
)

from payerseg.errors import SpineNotFound
from payerseg.postprocess.decision import SpineDecision
from payerseg.postprocess.spine_decoder import decode_spine
from payerseg.postprocess.spine_graph import decode_reference

NEAR_MM = 20.0


@dataclass
class Tally:
    """Counts over the cases of one scenario."""

    right: int = 0
    total: int = 0
    false: int = 0
    scans: int = 0
    wrong_scans: int = 0
    wrong_flagged: int = 0
    right_flagged: int = 0
    seconds: list[float] = field(default_factory=list)

    def add(self, case: Case, decision: SpineDecision | None) -> None:
        marks = dict(decision.landmarks) if decision else {}
        hits = [
            v for v, p in case.truth.items()
            if v in marks and np.linalg.norm(np.subtract(marks[v].position_mm, p)) < NEAR_MM
        ]  # fmt: skip
        misnamed = len(marks) - len([v for v in marks if v in hits])
        self.right += len(hits)
        self.total += len(case.truth)
        self.false += misnamed
        self.scans += 1
        wrong = misnamed > 0 or len(hits) == 0
        flagged = decision is None or decision.needs_review
        self.wrong_scans += wrong
        self.wrong_flagged += wrong and flagged
        self.right_flagged += flagged and not wrong

    def line(self) -> str:
        right = 100 * self.right / max(self.total, 1)
        slow = 1000 * float(np.median(self.seconds)) if self.seconds else 0
        flagged = f"{self.wrong_flagged}/{self.wrong_scans}"
        good = self.scans - self.wrong_scans
        return (
            f"id {right:5.1f} %  misnamed/scan {self.false / max(self.scans, 1):5.2f}  "
            f"wrong scans flagged {flagged:>8}  right scans flagged {self.right_flagged}/{good}  "
            f"{slow:.0f} ms"
        )


def scenarios(rng: np.random.Generator, spines: list[Truth]) -> dict[str, list[Case]]:
    """Return the cases of every scenario."""
    plain = Failures()
    clean = Failures(0.0, 0.0, (0.2, 0.3), 0.8, 0.0, 0.0, 0.0)
    hard = Failures(0.6, 0.25, (0.4, 0.9), 2.0, 0.06, 0.08, 3.0)
    cases = {
        "clean": [simulate(rng, whole(t), clean) for t in spines],
        "usual": [simulate(rng, whole(t), plain) for t in spines],
        "hard": [simulate(rng, whole(t), hard) for t in spines],
        "child 0.7": [simulate(rng, whole(transformed(t, 0.7)), plain) for t in spines],
    }
    for axis, name in enumerate("xyz"):
        turned = [transformed(t, 1.0, 25.0, axis) for t in spines]
        cases[f"turned 25 about {name}"] = [simulate(rng, whole(t), plain) for t in turned]
    mirrored = [{v: p * (1, -1, 1) for v, p in t.items()} for t in spines]
    cases["mirrored"] = [simulate(rng, whole(t), plain) for t in mirrored]
    for length in (150.0, 100.0, 60.0):
        cases[f"slab {length:.0f} mm"] = [
            simulate(rng, seen, plain) for t in spines for seen in _slabs(t, length)
        ]
    for variant in ("l6", "t13", "no_t12", "no_l5"):
        drawn = [draw_spine(rng, variant, rng.normal(1, 0.08)) for _ in range(40)]
        lower = [{v: p for v, p in t.items() if v.rank >= rng.integers(8, 14)} for t in drawn]
        cases[variant] = [simulate(rng, whole(t), plain) for t in lower]
    return cases


def _slabs(truth: Truth, length_mm: float, step_mm: float = 60.0) -> list:
    z = np.array([p[2] for p in truth.values()])
    starts = np.arange(z.min() - 10, z.max() + 10 - length_mm, step_mm)
    cuts = [slab(truth, start, length_mm) for start in starts]
    return [cut for cut in cuts if cut[0]]


def tally(cases: list[Case], decoder: str) -> Tally:
    """Decode all cases."""
    result = Tally()
    for case in cases:
        before = time.perf_counter()
        try:
            decision = decide(case, decoder)
        except SpineNotFound:
            decision = None
        result.seconds.append(time.perf_counter() - before)
        result.add(case, decision)
    return result


def decide(case: Case, decoder: str) -> SpineDecision:
    """Run one decoder on one case."""
    if decoder == "merged":
        return decode_spine(case.candidates, field=case.field)
    corners = case.field.corners_mm()[:, 2]
    ends = (float(corners.min()), float(corners.max()))
    return decode_reference(only_peaks(case.candidates), z_range_mm=ends)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spines", type=Path, help="landmarks_verse.json")
    parser.add_argument("--number", type=int, default=20)
    parser.add_argument("--decoders", nargs="+", default=["reference", "merged"])
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    if options.spines:
        spines = read_spines(options.spines)[: options.number]
    else:
        spines = [draw_spine(rng, scale=rng.normal(1, 0.08)) for _ in range(options.number)]
    for name, cases in scenarios(rng, spines).items():
        for decoder in options.decoders:
            print(f"{name:20} {decoder:10} {tally(cases, decoder).line()}", flush=True)
    noise = [noise_case(rng) for _ in range(40)]
    invented = tally(noise, "merged").false
    print(f"noise: {invented} vertebrae invented in {len(noise)} fields of meaningless peaks")


if __name__ == "__main__":
    main()
