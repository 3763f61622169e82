"""DICOM inventory — find the series in folders and zips and choose; runs before the pipeline.

Reads headers only, and of these no patient data. The work item is an input of the user, not a scan; it
writes which files are which volume, and what is to be done with each.
"""

from pathlib import Path

from payerseg.config.schema import DicomInventoryConfig
from payerseg.dicom.inventory import inventory_facts, take_inventory
from payerseg.results.artifacts import DICOM_INVENTORY as INVENTORY_FILE
from payerseg.stagekit.case_work import CaseWork
from payerseg.stagekit.catalog import DICOM_INVENTORY
from payerseg.stagekit.worker import StageSetup, run_stage


class DicomInventory:
    """Built once per process, called once per input."""

    def __init__(self, setup: StageSetup[DicomInventoryConfig]) -> None:
        self.config = setup.config

    def __call__(self, case: CaseWork) -> None:
        """Look through one input."""

        def tell(done: int, total: int) -> None:
            case.progress("read headers", done, total)

        inventory = take_inventory(Path(self.config.source_of(case.case_id)), tell)
        facts = inventory_facts(inventory, self.config.series, fill_gaps=self.config.fill_gaps)
        case.write(INVENTORY_FILE, facts)


if __name__ == "__main__":
    raise SystemExit(run_stage(DICOM_INVENTORY, DicomInventory))
