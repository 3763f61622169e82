"""Run a stage without a process of its own: for the library call and for tests.

Same case folder, same manifests, same checks as in a spawned process; what is missing is the
isolation: a crash of native code takes the caller with it.
"""

from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path
from typing import Any

from payerseg.config.load import section_to_dict
from payerseg.errors import OutOfResources, ProtocolError
from payerseg.stagekit.case_run import CaseResult, Provenance, StageSetup, build_stage, run_case
from payerseg.stagekit.case_work import Say
from payerseg.stagekit.catalog import StageSpec
from payerseg.stagekit.protocol import BUG_KIND, CaseRequest, describe_failure
from payerseg.stagekit.worker import StageClass


class InProcessStage:
    """One stage, loaded once, for many cases.

    Args:
        spec: which stage.
        setup: its settings, weights, seed.
        stage_class: default: the one of the stage's module.
        say: receives events; default: nobody.
    """

    def __init__(
        self,
        spec: StageSpec,
        setup: StageSetup[Any],
        stage_class: StageClass | None = None,
        say: Say | None = None,
    ) -> None:
        self._spec = spec
        self._say = say or (lambda _event, _fields: None)
        self._stage, weights = build_stage(stage_class or load_stage_class(spec), setup)
        self._provenance = Provenance(section_to_dict(setup.config), weights, setup.seed)

    def __call__(self, case_id: str, folder: Path, image: Path | None = None) -> CaseResult:
        """Do the stage for one case folder.

        Raises:
            PayersegError: a foreseen failure; disk and memory errors are turned into one.
            Exception: a bug.
        """
        request = CaseRequest(case_id, folder, image)
        try:
            return run_case(self._spec, self._stage, request, self._provenance, self._say)
        except (OSError, MemoryError) as error:
            failure = describe_failure(error)
            if failure.kind == BUG_KIND:
                raise
            raise OutOfResources(failure.message) from error


def load_stage_class(spec: StageSpec) -> StageClass:
    """Import a stage's module and return its one public class; nobody imports stages by name.

    Raises:
        ProtocolError: the module has not exactly one.
    """
    module = import_module(spec.module)
    classes: list[Any] = [
        item
        for name, item in inspect.getmembers(module, inspect.isclass)
        if item.__module__ == module.__name__ and not name.startswith("_")
    ]
    if len(classes) != 1:
        msg = f"{spec.module} has {len(classes)} public classes; a stage has exactly one"
        raise ProtocolError(msg)
    return classes[0]
