"""The whole pipeline on another engine: the same label map, and TensorFlow stays out of it.

Engines need not be installed together: each is compared with the label map that
`RECORD_LABELS=1 pytest tests/second_system/test_recorded.py` wrote under TensorFlow.
"""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from payerseg.imaging.files import read_volume, write_volume

GATE = 1e-3
RECORDED = Path(__file__).parents[1] / "golden" / "data" / "second_system_labels.npz"
STAGES = ("spine_localization", "vertebrae_localization", "vertebrae_segmentation")
# Runs in every process that Python starts with this folder on its path.
NOTE_MODULES = """
import atexit, os, sys
def note():
    with open(os.path.join(os.environ["NOTED"], f"{os.getpid()}.txt"), "w") as file:
        file.write(" ".join([sys.argv[0], *sorted(n for n in sys.modules if "." not in n)]))
atexit.register(note)
"""


@pytest.fixture(scope="module", params=["tensorflow", "torch", "jax"])
def engine(request):
    if find_spec(request.param) is None:
        pytest.skip(f"{request.param} is not installed: pip install payerseg[{request.param}]")
    return request.param


@pytest.fixture(scope="module", params=["payer", "verse_pytorch"])
def run(
    request, engine, coded_scan, handmade_weights, second_weights, tmp_path_factory, repository
):
    """`payerseg run` on one scan; returns label map and, for each stage process, its modules."""
    if (engine, request.param) == ("tensorflow", "payer"):
        pytest.skip("tests/end_to_end runs the default family on TensorFlow")
    work = tmp_path_factory.mktemp(f"{request.param}_{engine}")
    (work / "noted").mkdir()
    (work / "sitecustomize.py").write_text(NOTE_MODULES)
    write_volume(coded_scan.ct, work / "scan.nii.gz")
    weights = handmade_weights if request.param == "payer" else second_weights
    flags = [x for step, n in enumerate(STAGES, 1) for x in (f"--model_step{step}", weights[n])]
    command = ["-m", "payerseg", "run", work / "scan.nii.gz", "-o", work / "out", "--json"]
    command += ["--preset", "tiny_test", "--backend", engine, "--device", "cpu", *flags]
    command += ["--to-stage", "vertebrae_segmentation"]
    inherited = os.environ.get("PYTHONPATH", "")
    path = os.pathsep.join(filter(None, [str(work), str(repository), inherited]))
    environment = {**os.environ, "PYTHONPATH": path, "NOTED": str(work / "noted")}
    environment.pop("KERAS_BACKEND", None)
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=work,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-2000:]
    (case,) = json.loads(done.stdout)["cases"]
    part = "done_to_vertebrae_segmentation"
    assert case["status"] in ("ok", "ok_needs_review", part, f"{part}_needs_review")
    noted = [file.read_text().split() for file in (work / "noted").iterdir()]
    modules = {Path(words[0]).stem: set(words[1:]) for words in noted}
    labels = read_volume(work / "out/scan/step3_vertebrae_segmentation/scan_seg.nii.gz").array
    return request.param, labels, modules


@pytest.mark.backend
def test_the_label_map_is_tensorflows(run):
    family, labels, _ = run
    expected = np.load(RECORDED)[family]
    assert labels.shape == expected.shape
    differ = np.count_nonzero(labels != expected)
    assert differ <= GATE * np.count_nonzero(expected), f"{differ} voxels differ"


@pytest.mark.backend
def test_only_the_chosen_engine_is_imported(run, engine):
    _, _, modules = run
    assert set(STAGES) <= set(modules), f"noted: {sorted(modules)}"
    for stage in STAGES:
        assert engine in modules[stage]
        others = {"tensorflow", "torch", "jax"} - {engine}
        # Keras itself takes a look at an installed jax or torch under some engines; never at TensorFlow
        assert "tensorflow" not in others & modules[stage], f"{stage} imported TensorFlow"
