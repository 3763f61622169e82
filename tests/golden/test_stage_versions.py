"""A stage whose results change gets another version, else old results would pass as fresh.

A tiny case goes through all stages with networks set by hand (tests/conftest.py); what each stage writes
is compared with what was recorded for its version. Numbers have a tolerance, as processors and library
versions round differently; pictures, sentences and the page are not looked at. After a bump:

    PAYERSEG_RECORD=1 python -m pytest tests/golden/test_stage_versions.py

records the stages that have another version than the record.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from payerseg.config.load import load_config
from payerseg.domain.vertebra import Vertebra
from payerseg.imaging.files import write_volume
from payerseg.imaging.orient import Orientation
from payerseg.results import artifacts as a
from payerseg.results.case_folder import CaseFolder
from payerseg.results.formats import read_artifact
from payerseg.stagekit.case_run import StageSetup
from payerseg.stagekit.catalog import PIPELINE, StageSpec
from payerseg.stagekit.in_process import InProcessStage

RECORD = Path(__file__).parent / "data" / "stage_results.json"
RELATIVE, ABSOLUTE = 2e-3, 2e-3
SENTENCES = ("/reasons", "/message")
Facts = dict[str, float | str]


@pytest.fixture(scope="module")
def folder(handmade_weights, synthetic_spine, synthetic_grids, tmp_path_factory) -> CaseFolder:
    """The tiny case after all stages."""
    work = tmp_path_factory.mktemp("golden")
    ct = synthetic_spine(synthetic_grids["oblique"](), coded=True, noise_hu=0).ct
    write_volume(Orientation((1, 0, 2), (True, False, True)).apply(ct), work / "tiny.nii.gz")
    config = load_config("tiny_test")
    for spec in PIPELINE:
        setup = StageSetup(getattr(config, spec.section), handmade_weights.get(spec.name), 0)
        InProcessStage(spec, setup)("tiny", work / "tiny", work / "tiny.nii.gz")
    return CaseFolder(work / "tiny", "tiny")


def flat(value: Any, name: str) -> Facts:
    """Plain JSON as path → leaf; of sentences only how many there are."""
    if name.endswith(SENTENCES):
        return {f"{name}/count": len(value) if isinstance(value, list) else 1}
    if isinstance(value, dict):
        return {k: v for key, item in value.items() for k, v in flat(item, f"{name}/{key}").items()}
    if isinstance(value, list):
        return {k: v for i, item in enumerate(value) for k, v in flat(item, f"{name}/{i}").items()}
    return {name: value if isinstance(value, float | int) else str(value)}


def table(text: str, name: str) -> Facts:
    """A CSV file as first field/column → value."""
    facts: Facts = {}
    for i, row in enumerate(csv.DictReader(io.StringIO(text))):
        for key, cell in row.items():
            try:
                facts[f"{name}/{i}/{key}"] = float(cell)
            except ValueError:
                facts[f"{name}/{i}/{key}"] = cell
    return facts


def facts_of(artifact: a.Artifact, folder: CaseFolder) -> Facts:
    """What an artifact says, as numbers and words that can be compared."""
    path, name = folder.path(artifact), artifact.name
    if artifact.format in ("json", "scan", "spine_box"):
        return flat(json.loads(path.read_text()), name)
    if path.suffix == ".csv":
        return table(path.read_text(), name)
    value = read_artifact(artifact, path)
    if artifact.format == "vertebra_masks":
        return {
            f"{name}/{v.name}": f"{m.array.shape} {int(m.array.sum())}" for v, m in value.items()
        }
    array = value.array
    facts: Facts = {f"{name}/shape": str(array.shape), **flat(value.grid.matrix.tolist(), name)}
    if artifact is a.CT:
        facts[f"{name}/digest"] = hashlib.blake2b(array.tobytes(), digest_size=16).hexdigest()
    elif artifact is a.SEGMENTATION:
        for vertebra in Vertebra:
            where = np.argwhere(array == vertebra.verse_label)
            if len(where):
                facts[f"{name}/{vertebra.name}/voxels"] = len(where)
                facts |= flat(where.mean(axis=0).tolist(), f"{name}/{vertebra.name}/centre")
    else:
        facts[f"{name}/mean"] = float(array.mean(dtype=float))
        facts[f"{name}/max"] = float(array.max())
    return facts


def found_facts(spec: StageSpec, folder: CaseFolder) -> Facts:
    """Everything a stage wrote, but for pictures and pages."""
    left_out = {"png", "text"}
    written = [w for w in spec.writes if w.format not in left_out or w is a.MEASUREMENTS]
    return {k: v for artifact in written for k, v in facts_of(artifact, folder).items()}


def is_same(found: float | str | None, recorded: float | str | None) -> bool:
    if isinstance(found, str) or isinstance(recorded, str) or None in (found, recorded):
        return found == recorded
    return math.isclose(found, recorded, rel_tol=RELATIVE, abs_tol=ABSOLUTE)


def differences(found: Facts, recorded: Facts) -> list[str]:
    names = list(found | recorded)
    return [
        f"{name}: {recorded.get(name)} -> {found.get(name)}"
        for name in names
        if not is_same(found.get(name), recorded.get(name))
    ]


def record(spec: StageSpec, facts: Facts, entries: dict[str, Any]) -> None:
    entries[spec.name] = {"version": spec.version, "results": facts}
    RECORD.write_text(json.dumps(entries, indent=0, sort_keys=True) + "\n")


@pytest.mark.parametrize("spec", PIPELINE, ids=lambda spec: spec.name)
def test_other_results_have_another_version(spec, folder):
    facts = json.loads(json.dumps(found_facts(spec, folder)))
    entries = json.loads(RECORD.read_text()) if RECORD.is_file() else {}
    entry = entries.get(spec.name)
    if os.environ.get("PAYERSEG_RECORD") and (not entry or entry["version"] != spec.version):
        record(spec, facts, entries)
        return
    assert entry, f"{spec.name} is not in {RECORD.name}; record it (see the top of this file)"
    changed = differences(facts, entry["results"])
    name = spec.name.upper()
    assert entry["version"] == spec.version, (
        f"{name}.version is {spec.version}, recorded is {entry['version']}: record it "
        f"(see the top of this file); {len(changed)} results differ"
    )
    assert not changed, (
        f"{spec.name} gives other results: bump {name}.version in stagekit/catalog.py and record it "
        "(see the top of this file), so that old results become stale; or, if no result of a user can "
        f"change by it, take {spec.name} out of {RECORD.name}, record it and say why in the commit. "
        + "; ".join(changed[:8])
    )


def test_the_comparison_can_fail():
    recorded = {"landmarks/0/X": 10.0, "flags": "", "gone": 1}
    assert differences({"landmarks/0/X": 10.01, "flags": "", "gone": 1}, recorded) == []
    moved = differences({"landmarks/0/X": 10.1, "flags": "rare", "new": 1}, recorded)
    assert [text.split(":")[0] for text in moved] == ["landmarks/0/X", "flags", "new", "gone"]
