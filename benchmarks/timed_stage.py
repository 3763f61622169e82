"""One stage in a process of its own, with clocks: the replay of a request that a run has kept.

    python benchmarks/timed_stage.py STAGE REQUEST.json FIGURES.json STARTED

The stage's code is the pipeline's, untouched; functions are wrapped from outside. STARTED is the time at
which this process was asked for, so that the interpreter's own start counts. Work of other threads during
a network's pass (the next crop) counts as the network's: nobody waits for it.
"""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

PHASES = ("imports", "weights", "network", "read", "prepare", "finish", "write")
"""From the process's start to the stage's class; to the compiled network; the network's passes; reading and
hashing inputs; making network inputs; everything after the network (and all of a stage without one); writing
and hashing outputs."""
PREPARING = ("spine_input", "vertebrae_input")


class Clock:
    """Adds up wall and CPU seconds by phase; a phase inside another counts for the inner one only.

    Attributes:
        seconds, cpu_seconds: by phase.
        passes: sizes (b, z, y, x, c) of the network's inputs, in their order.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.cpu_seconds: dict[str, float] = defaultdict(float)
        self.passes: list[tuple[int, ...]] = []
        self._open: list[str] = []
        self._last = (time.time(), time.process_time())

    def book(self, phase: str) -> None:
        """Count everything since the last booking for a phase."""
        now = (time.time(), time.process_time())
        self.seconds[phase] += now[0] - self._last[0]
        self.cpu_seconds[phase] += now[1] - self._last[1]
        self._last = now

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count what happens inside for a phase."""
        self.book(self._open[-1] if self._open else "imports")
        self._open.append(name)
        try:
            yield
        finally:
            self.book(self._open.pop())

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that counts for a phase."""

        def run(*arguments: Any, **options: Any) -> Any:
            with self.phase(name):
                return function(*arguments, **options)

        return run

    def timed_items(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a generator function whose waits for the next item count for a phase."""

        def run(*arguments: Any) -> Iterator[Any]:
            items = iter(function(*arguments))
            while True:
                with self.phase(name):
                    item = next(items, None)
                if item is None:
                    return
                yield item

        return run


def watch_network(clock: Clock) -> list[Any]:
    """Time the passes of every network that will be loaded; return a list that will hold them."""
    from payerseg.inference import predictor

    models: list[Any] = []
    compiled = predictor.compile_forward

    def compile_timed(model: Any) -> Callable[[Any], Any]:
        models.append(model)
        forward = clock.timed("network", compiled(model))

        def run(array: Any) -> Any:
            clock.passes.append(array.shape)
            return forward(array)

        return run

    predictor.compile_forward = compile_timed
    predictor._prepared_ahead = clock.timed_items("prepare", predictor._prepared_ahead)  # noqa: SLF001
    return models


def watch_case(clock: Clock, module: ModuleType) -> None:
    """Time what a stage does with a case."""
    from payerseg.stagekit import case_run, worker
    from payerseg.stagekit.case_work import CaseWork

    worker.run_case = clock.timed("finish", worker.run_case)
    CaseWork.read = clock.timed("read", CaseWork.read)
    CaseWork.write = clock.timed("write", CaseWork.write)
    case_run._hash_inputs = clock.timed("read", case_run._hash_inputs)  # noqa: SLF001
    case_run._hash_outputs = clock.timed("write", case_run._hash_outputs)  # noqa: SLF001
    for name in PREPARING:
        if hasattr(module, name):
            setattr(module, name, clock.timed("prepare", getattr(module, name)))
    if module.__name__ == "stages.preparation":
        from payerseg.preprocess import preparation

        preparation.read_scan = clock.timed("read", preparation.read_scan)
        preparation.prepare_raw = clock.timed("prepare", preparation.prepare_raw)


def main(name: str, request: str, figures: str, started: str) -> int:
    """Run a stage and write its figures."""
    clock = Clock()
    clock._last = (float(started), 0.0)  # noqa: SLF001
    from payerseg.stagekit.catalog import PIPELINE
    from payerseg.stagekit.in_process import load_stage_class
    from payerseg.stagekit.memory import memory_mb
    from payerseg.stagekit.worker import run_stage

    spec = next(stage for stage in PIPELINE if stage.name == name)
    stage_class = load_stage_class(spec)
    module = import_module(spec.module)
    clock.book("imports")
    models = watch_network(clock) if spec.weights else []
    watch_case(clock, module)
    code = run_stage(spec, clock.timed("weights", stage_class), [request])
    clock.book("imports")
    found: dict[str, Any] = {
        "stage": name,
        "exit_code": int(code),
        "seconds": dict(clock.seconds),
        "cpu_seconds": dict(clock.cpu_seconds),
        "peak_rss_mb": memory_mb().peak,
        "passes": len(clock.passes),
        "gflop": 0.0,
    }
    if models:
        from matrix_peak import network_flops

        sizes = {shape: network_flops(models[0], shape) for shape in set(clock.passes)}
        found["gflop"] = sum(sizes[shape] for shape in clock.passes) / 1e9
    Path(figures).write_text(json.dumps(found), encoding="utf-8")
    return int(code)


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
