"""One stage in a process of its own, with clocks: the replay of a request that a run has kept.

    python benchmarks/timed_stage.py STAGE REQUEST.json FIGURES.json STARTED
    python benchmarks/timed_stage.py peak float32 mixed_bfloat16

The stage's code is the pipeline's, untouched; functions are wrapped from outside. STARTED is the time at
which this process was asked for, so that the interpreter's own start counts. Work of other threads during
a network's pass (the next crop) counts as the network's: nobody waits for it.

`peak` measures how fast this machine multiplies matrices, the yardstick for the networks' speed. The limit of
the silicon needs hand-written assembler to reach; what counts for a network is what the best kernels of its
own engine reach on shapes made for them. So matrix products and 3 x 3 x 3 convolutions of several sizes, wide
enough that every tile of the result stays in registers, run for a second each after a warm-up; the fastest
single run is the peak. A convolution of a network cannot beat it by more than noise.
"""

from __future__ import annotations

import json
import math
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
MATRIX_SIZES = (1024, 2048, 4096)
CONVOLUTIONS = (((32, 64, 64), 64), ((32, 64, 64), 128), ((16, 48, 48), 256))
"""Voxels (z, y, x) and channels."""
KERNEL_TAPS = 27
SECONDS_EACH = 1.0
GIGA = 1e9


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


def matrix_peak(precision: str) -> dict[str, Any]:
    """Return the fastest of all candidates in the operand type of a Keras precision.

    GFLOP/s by the wall clock, and per CPU second of all threads.
    """
    import tensorflow as tf

    kind = tf.float32 if precision == "float32" else tf.bfloat16
    rates = []
    for size in MATRIX_SIZES:
        a, b = (tf.cast(tf.random.normal((size, size)), kind) for _ in range(2))
        product = tf.function(lambda a, b: tf.linalg.matmul(a, b)[:1, :1])
        flops = 2.0 * size**3
        rates.append(_fastest(lambda a=a, b=b, f=product: f(a, b), flops, f"{size}² matrices"))
    for sides, channels in CONVOLUTIONS:
        image = tf.cast(tf.random.normal((1, *sides, channels)), kind)
        filters = tf.cast(tf.random.normal((3, 3, 3, channels, channels)), kind)
        folded = tf.function(lambda x, w: tf.nn.conv3d(x, w, (1,) * 5, "SAME")[:, :1])
        flops = 2.0 * math.prod(sides) * KERNEL_TAPS * channels**2
        name = f"convolution of {channels} channels"
        rates.append(_fastest(lambda x=image, w=filters, f=folded: f(x, w), flops, name))
    fastest = max(rates, key=lambda rate: rate["per_second"])
    return fastest | {"per_cpu_second": max(rate["per_cpu_second"] for rate in rates)}


def _fastest(run: Callable[[], object], flops: float, name: str) -> dict[str, Any]:
    run()
    wall, cpu = [], []
    end = time.perf_counter() + SECONDS_EACH
    while time.perf_counter() < end or len(wall) < 3:
        started, started_cpu = time.perf_counter(), time.process_time()
        run()
        wall.append(time.perf_counter() - started)
        cpu.append(time.process_time() - started_cpu)
    per_second, per_cpu_second = flops / min(wall) / GIGA, flops / min(cpu) / GIGA
    return {"per_second": per_second, "per_cpu_second": per_cpu_second, "of": name}


def network_flops(model: Any, shape: tuple[int, ...]) -> float:
    """Return the floating-point operations of a network's convolutions for an input (b, z, y, x, c).

    Two per multiply-add, taps on the zero padding included; everything else is left out: it is a few
    per cent, and no matrix product.
    """
    import keras

    sized = keras.models.clone_model(model, input_tensors=keras.Input(batch_shape=shape))
    total = 0.0
    for layer in sized.layers:
        if isinstance(layer, keras.layers.Conv3D):
            taps = math.prod(layer.kernel.shape[:4])
            total += 2.0 * taps * math.prod(layer.output.shape)
    return total


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
        sizes = {shape: network_flops(models[0], shape) for shape in set(clock.passes)}
        found["gflop"] = sum(sizes[shape] for shape in clock.passes) / GIGA
    Path(figures).write_text(json.dumps(found), encoding="utf-8")
    return int(code)


if __name__ == "__main__":
    if sys.argv[1] == "peak":
        print(json.dumps({precision: matrix_peak(precision) for precision in sys.argv[2:]}))
    else:
        raise SystemExit(main(*sys.argv[1:]))
