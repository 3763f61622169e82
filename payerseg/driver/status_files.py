"""The status files of a run's cases: written where something changed; a fresh cohort costs nothing."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from payerseg.driver.inputs import may_have_folder
from payerseg.driver.settings import RunSettings
from payerseg.errors import ArtifactError
from payerseg.results.status import CaseStatus, CaseSummary, read_status


class StatusFiles:
    """What `status.json` says of each case, as far as this run has read or written it."""

    def __init__(self, settings: RunSettings, run_id: str) -> None:
        """Nothing is read yet."""
        self._settings, self._run_id = settings, run_id
        self._told: dict[str, CaseSummary] = {}

    def read(self, case_id: str) -> str:
        """Return the status of before this run; "" where there is none, or none that can be read."""
        try:
            found = read_status(self._settings.case_folder(case_id))
        except ArtifactError:
            return ""
        if found is None:
            return ""
        self._told[case_id] = found
        return found.status

    def write_unfinished(self, case_id: str, image: Path | None) -> None:
        """Say of a case about to be worked on that it is not done.

        Raises:
            OSError: it cannot be written.
        """
        message = "the run has not ended"
        self.write(CaseSummary(case_id, CaseStatus.NOT_RUN, message, image, {}, self._run_id))

    def write(self, case: CaseSummary, *, durable: bool = False) -> None:
        """Say how a case ended; `durable` costs a wait for the disk.

        Nothing is written of a case that was refused as its folder cannot be.

        Raises:
            OSError: it cannot be written.
        """
        folder = self._settings.case_folder(case.case_id)
        is_file = os.path.lexists(folder.root) and not os.path.isdir(folder.root)
        if is_file or not may_have_folder(case.case_id):
            return
        told = self._told.get(case.case_id)
        if told is None or replace(told, run_id=case.run_id) != case:
            case.write(folder, durable=durable)
            self._told[case.case_id] = case
