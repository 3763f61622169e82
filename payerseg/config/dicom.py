"""What the inventory of DICOM inputs is asked; filled in by the driver, not by people."""

from __future__ import annotations

from dataclasses import dataclass

from payerseg.config.option import check_options, option

INPUT_PREFIX = "input"


@dataclass(frozen=True, slots=True)
class DicomInventoryConfig:
    """Which inputs are looked through, and which series are wanted."""

    sources: tuple[str, ...] = option((), "absolute paths of folders, zips or files")
    series: str = option("best", "as driver.dicom_series")
    fill_gaps: bool = option(False, "missing slices are no obstacle")

    def __post_init__(self) -> None:
        check_options(self)

    def source_of(self, case_id: str) -> str:
        """Return the input that a work item stands for: "input3" is the fourth."""
        return self.sources[int(case_id.removeprefix(INPUT_PREFIX))]
