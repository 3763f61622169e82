"""Everything that can fail before the first process is started: fail before the long work."""

from __future__ import annotations

import difflib
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from payerseg.config.weights import check_weights
from payerseg.driver.dicom_inputs import SERIES_FOLDER, DicomFound, find_series, split_inputs
from payerseg.driver.inputs import (
    Discovery,
    Refusal,
    discover_cases,
    remembered_cases,
    why_no_text,
)
from payerseg.driver.run_folder import RequestFiles
from payerseg.driver.settings import RunSettings, StagePlan, plan_stages
from payerseg.driver.stage_run import start_program
from payerseg.driver.supervisor import check_backend, chosen_variables
from payerseg.errors import BundleError, ConfigError, UsageError
from payerseg.results.case_folder import Case
from payerseg.results.fingerprint import HashMemo, scan_bytes, text_digest
from payerseg.stagekit.catalog import StageSpec

# Results and intermediates of a case are about as large as its scan, seldom more than this often.
SPACE_PER_SCAN = 3


@dataclass(frozen=True, slots=True)
class Preflight:
    """What a run will do.

    Attributes:
        plans: of all stages of the pipeline.
        cases: to be looked at.
        refusals: cases that cannot begin.
        notices: for people.
        environment: variables that we set for every stage process.
    """

    plans: tuple[StagePlan, ...]
    cases: tuple[Case, ...]
    refusals: tuple[Refusal, ...]
    notices: tuple[str, ...]
    environment: dict[str, str]


def check_before_start(
    settings: RunSettings, memo: HashMemo, series_folder: Path | None = None
) -> Preflight:
    """Check inputs, output, settings and weights.

    Args:
        settings: what is asked.
        memo: for the weights.
        series_folder: where the series found in DICOM inputs are kept; default: in the output folder.

    Raises:
        UsageError: inputs, output or options cannot be used.
        ConfigError: a setting cannot be used.
        BundleError: weights are missing, damaged, or another stage's.
    """
    stages = settings.stage_range()
    environment = chosen_variables(settings.driver, os.environ)
    _check_output(settings)
    found = _find_cases(settings, series_folder or settings.driver_folder / SERIES_FOLDER)
    wanted = {case_id for case_id in _all_ids(found) if _in_shard(case_id, settings.shard)}
    if settings.only_cases:
        _check_known(settings.only_cases, _all_ids(found))
        wanted &= set(settings.only_cases)
    for index in stages:
        spec = settings.pipeline[index]
        if spec.weights:
            check_backend(settings.driver.backend)
            _check_weights(spec, settings.weights)
    judged = [
        _check_folder(case, settings.output) for case in found.cases if case.case_id in wanted
    ]
    cases = [item for item in judged if isinstance(item, Case)]
    refusals = [item for item in (*found.refusals, *judged) if isinstance(item, Refusal)]
    refusals = [item for item in refusals if item.case_id in wanted]
    notices = [*found.notes, *_space_notice(cases, settings.output)]
    plans = plan_stages(settings, memo)
    asked = [plans[index] for index in stages if plans[index].spec.weights]
    if settings.driver.device.startswith("gpu") and asked and cases and not settings.dry_run:
        check_device(asked[0], settings)
    return Preflight(plans, tuple(cases), tuple(refusals), tuple(notices), environment)


def check_device(plan: StagePlan, settings: RunSettings) -> None:
    """Ask a stage with a network, before the first case, whether it finds the GPU that was asked for.

    Only the engine knows, and it is not loaded here: the stage is asked for no case at all.

    Raises:
        ConfigError: it refuses; in its words.
    """
    driver = settings.driver
    with tempfile.TemporaryDirectory(prefix="payerseg-device-") as name:
        request = plan.request("device", (), driver.heartbeat_s)
        files = RequestFiles.write(Path(name), "request", request)
        end = start_program(plan.spec, files, driver, lambda _: driver.case_s).run()
    if end.rejected is not None:
        raise ConfigError(str(end.rejected["message"]))


def _check_weights(spec: StageSpec, weights: Mapping[str, Path]) -> None:
    path = weights.get(spec.name)
    if path is None:
        msg = f"no weights for {spec.name}; give a bundle folder with --model_step{spec.step}"
        raise BundleError(msg)
    check_weights(path, spec.name)


def _check_output(settings: RunSettings) -> None:
    output = settings.output
    if not output.is_absolute():
        msg = f"output folder {output} is not absolute; resolve it before the run"
        raise UsageError(msg)
    if no_text := why_no_text(str(output)):
        raise UsageError(no_text)
    nearest = next(path for path in (output, *output.parents) if os.path.exists(path))
    if not os.path.isdir(nearest):
        msg = f"{nearest} is a file; expected a folder for the results"
        raise UsageError(msg)
    if not os.access(nearest, os.W_OK | os.X_OK) and not settings.dry_run:
        msg = f"cannot write to {nearest}; choose another output folder or change its permissions"
        raise UsageError(msg)


def _find_cases(settings: RunSettings, series_folder: Path) -> Discovery:
    if settings.inputs:
        return _find_in(settings, series_folder)
    cases = remembered_cases(settings.output)
    if not cases:
        msg = f"{settings.output} holds no results; name the scans or their folder"
        raise UsageError(msg)
    return Discovery(cases, (), ())


def _find_in(settings: RunSettings, series_folder: Path) -> Discovery:
    """Find scans, and series in DICOM inputs; a series that cannot be used is a case that fails."""
    plain, sources, remarks = split_inputs(settings.inputs)
    series = DicomFound()
    if sources:
        with tempfile.TemporaryDirectory(prefix="payerseg-dicom-") as work:
            series = find_series(sources, settings, series_folder, Path(work))
    scans = [*plain, *series.scans]
    found = discover_cases(scans) if scans or not series.refusals else Discovery((), (), ())
    known = {case.case_id for case in found.cases} | {item.case_id for item in found.refusals}
    refused = [
        replace(item, case_id=f"{item.case_id}-dicom") if item.case_id in known else item
        for item in series.refusals
    ]
    notes = (*remarks, *series.notes, *found.notes)
    return Discovery(found.cases, (*found.refusals, *refused), notes)


def _all_ids(found: Discovery) -> set[str]:
    return {case.case_id for case in found.cases} | {item.case_id for item in found.refusals}


def _check_known(asked: Iterable[str], known: set[str]) -> None:
    for case_id in asked:
        if case_id in known:
            continue
        near = difflib.get_close_matches(case_id, sorted(known), n=1)
        hint = (
            f"did you mean {near[0]!r}?"
            if near
            else f"there are {len(known)} cases, e.g. {min(known)!r}"
        )
        msg = f"no case {case_id!r}; {hint}"
        raise UsageError(msg)


def _in_shard(case_id: str, shard: tuple[int, int] | None) -> bool:
    """Tell by the name alone, so that every machine comes to the same parts, whatever else lies there."""
    if shard is None:
        return True
    number, count = shard
    if not 1 <= number <= count:
        msg = f"--shard {number}/{count}: expected I/N with 1 <= I <= N"
        raise UsageError(msg)
    return int(text_digest(case_id), 16) % count == number - 1


def _check_folder(case: Case, output: Path) -> Case | Refusal:
    place = output / case.case_id
    if os.path.isdir(place) or not os.path.lexists(place):
        return case
    image = case.image or place
    message = (
        f"{place} is a file, or a link to nothing, where the case's folder should be; move it away"
    )
    return Refusal(case.case_id, image, "usage", message)


def _space_notice(cases: Iterable[Case], output: Path) -> list[str]:
    sizes = [scan_bytes(case.image) for case in cases if case.image]
    nearest = next(path for path in (output, *output.parents) if os.path.exists(path))
    free, wanted = shutil.disk_usage(nearest).free, SPACE_PER_SCAN * sum(sizes)
    if free >= wanted:
        return []
    return [f"{free / 1e9:.1f} GB free at {nearest}; the results may need {wanted / 1e9:.1f} GB"]
