"""What a run is asked to do, and what that means for each stage."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from payerseg.config.load import section_to_dict
from payerseg.config.schema import DriverConfig, RunConfig
from payerseg.errors import BundleError, UsageError
from payerseg.results.case_folder import DRIVER_FOLDER, CaseFolder
from payerseg.results.fingerprint import HashMemo, results_memo, weights_digest
from payerseg.stagekit.catalog import PIPELINE, StageSpec
from payerseg.stagekit.protocol import CaseRequest, StageRequest, WeightsRequest

Export = Literal["flat"]


@dataclass(frozen=True, slots=True)
class RunSettings:
    """One run, as asked for.

    Attributes:
        output: folder of case folders.
        inputs: scans or folders of scans; none = the cases already in `output`.
        config: all choices; those of the driver included.
        weights: stage name to bundle folder or checkpoint prefix.
        from_stage, to_stage: names of the first and last stage to run; None = the pipeline's ends.
        force: run even what is fresh.
        rerun: name of the one stage that runs even where it is fresh.
        only_cases: case ids; none = all.
        shard: (i, n) does the i-th of n parts, 1 <= i <= n; parts never overlap.
        dry_run: decide and tell, run nothing.
        exports: additional layouts to write at the end.
        pipeline: the stages, in order.
    """

    output: Path
    inputs: tuple[Path, ...] = ()
    config: RunConfig = field(default_factory=RunConfig)
    weights: Mapping[str, Path] = field(default_factory=dict)
    from_stage: str | None = None
    to_stage: str | None = None
    force: bool = False
    rerun: str | None = None
    only_cases: tuple[str, ...] = ()
    shard: tuple[int, int] | None = None
    dry_run: bool = False
    exports: tuple[Export, ...] = ()
    pipeline: tuple[StageSpec, ...] = PIPELINE

    @property
    def driver(self) -> DriverConfig:
        """The driver's own choices."""
        return self.config.driver

    @property
    def driver_folder(self) -> Path:
        """Where the driver keeps its own files."""
        return self.output / DRIVER_FOLDER

    def forces(self, stage: str) -> bool:
        """Tell whether a stage runs even where it is fresh."""
        return self.force or stage == self.rerun

    def case_folder(self, case_id: str) -> CaseFolder:
        """Return where a case lies."""
        return CaseFolder(self.output / case_id, case_id)

    def open_memo(self) -> HashMemo:
        """Open the hash memo of the output folder."""
        return results_memo(self.output)

    def stage_range(self) -> range:
        """Return the indices of the stages to run.

        Raises:
            UsageError: an unknown stage, or the last before the first.
        """
        names = [spec.name for spec in self.pipeline]
        for name in (self.from_stage, self.to_stage):
            if name is not None and name not in names:
                msg = f"no stage {name!r}; stages are {', '.join(names)}"
                raise UsageError(msg)
        first = names.index(self.from_stage) if self.from_stage else 0
        last = names.index(self.to_stage) if self.to_stage else len(names) - 1
        if last < first:
            msg = f"--to-stage {self.to_stage} comes before --from-stage {self.from_stage}"
            raise UsageError(msg)
        return range(first, last + 1)


@dataclass(frozen=True, slots=True)
class StagePlan:
    """A stage with everything its key needs.

    Attributes:
        spec: which stage.
        config: its settings as plain JSON.
        weights: path; None for a stage without.
        fingerprint: of the weights; None without weights, or where they are not at hand (`status` of
            results that came from another machine).
        seed: for everything random.
    """

    spec: StageSpec
    config: Mapping[str, Any]
    weights: Path | None = None
    fingerprint: str | None = None
    seed: int = 0

    def request(
        self, run_id: str, items: Iterable[CaseRequest], heartbeat_s: float
    ) -> StageRequest:
        """Return what a process of the stage is asked to do for work items."""
        weights = None
        if self.weights is not None and self.fingerprint is not None:
            weights = WeightsRequest(self.weights.absolute(), self.fingerprint)
        return StageRequest(
            run_id=run_id,
            stage=self.spec.name,
            stage_version=self.spec.version,
            cases=tuple(items),
            config=self.config,
            weights=weights,
            seed=self.seed,
            heartbeat_s=heartbeat_s,
        )


def plan_stages(settings: RunSettings, memo: HashMemo) -> tuple[StagePlan, ...]:
    """Return the plan of every stage of the pipeline; absent weights are the preflight's business."""
    plans = []
    for spec in settings.pipeline:
        config = section_to_dict(getattr(settings.config, spec.section))
        path = settings.weights.get(spec.name) if spec.weights else None
        fingerprint = None
        if path is not None:
            with contextlib.suppress(BundleError):
                fingerprint = weights_digest(path, memo)
        plans.append(StagePlan(spec, config, path, fingerprint, settings.driver.seed))
    return tuple(plans)
