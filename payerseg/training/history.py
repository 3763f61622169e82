"""What a training said: a CSV that survives kills, TensorBoard files beside it, and the best figure."""

from __future__ import annotations

import csv
import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary

from payerseg import records
from payerseg.atomic import replacing, write_text

HISTORY_FILE = "history.csv"
BEST_FILE = "best.json"
TENSORBOARD_FOLDER = "tensorboard"
COLUMNS = ("step", "seconds", "learning_rate", "loss", "figures")


@dataclass(frozen=True, slots=True)
class BestWeights:
    """Which weights were the best so far.

    Attributes:
        step: they were judged at.
        score: by which they were chosen.
        figures: of their validation, as far as they are finite.
    """

    step: int
    score: float
    figures: Mapping[str, float]


class EventFile:
    """A TensorBoard file that is whole after every record, so that a killed training loses none.

    tensorboardX's own `SummaryWriter` writes from a thread that a kill does not wait for, and into
    the file of a training that was started in the same second.
    """

    def __init__(self, folder: Path) -> None:
        """Open a new file; a resumed training adds a second one, which TensorBoard joins."""
        folder.mkdir(parents=True, exist_ok=True)
        self._file = EventsWriter(str(folder / "events"), f".{os.getpid()}")
        self._file.flush()

    def write(self, content: Summary, step: int) -> None:
        """Write one number or picture."""
        self._file.write_event(Event(wall_time=time.time(), step=step, summary=content))
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class History:
    """Rows of a training: one per report, one per validation.

    Columns are fixed so that a file can be appended to; validation figures are one JSON cell.
    """

    def __init__(self, folder: Path, *, first_step: int, tensorboard: bool) -> None:
        """Open the history of a training that goes on at `first_step`.

        Rows beyond it were written after the last checkpoint by a process that was killed; they are
        removed, as their steps are done again.
        """
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / HISTORY_FILE
        kept = [row for row in self.rows() if int(row["step"]) <= first_step]
        self._rewrite(kept)
        self.seconds = float(kept[-1]["seconds"]) if kept else 0.0
        self._events = EventFile(folder / TENSORBOARD_FOLDER) if tensorboard else None
        best = read_best(folder)
        self.best: float = best.score if best and best.step <= first_step else -math.inf

    def report(self, step: int, seconds: float, loss: float, rate: float) -> None:
        """Write the mean loss since the last report."""
        self._append([step, round(seconds, 1), f"{rate:.6g}", f"{loss:.6g}", ""])
        if self._events:
            self._events.write(summary.scalar("loss", loss), step)
            self._events.write(summary.scalar("learning_rate", rate), step)

    def validation(self, step: int, seconds: float, figures: Mapping[str, float]) -> None:
        """Write the figures of a validation."""
        plain = {key: round(float(value), 5) for key, value in figures.items()}
        self._append([step, round(seconds, 1), "", "", json.dumps(plain)])
        if self._events:
            for key, value in figures.items():
                self._events.write(summary.scalar(f"val/{key}", float(value)), step)

    def pictures(self, step: int, pictures: Sequence[tuple[str, np.ndarray]]) -> None:
        """Write named grey pictures for TensorBoard."""
        if self._events:
            for name, picture in pictures:
                self._events.write(summary.image(f"val/{name}", picture, dataformats="HW"), step)

    def is_best(self, step: int, score: float, figures: Mapping[str, float]) -> bool:
        """Tell whether a score is the best so far, and remember it if so.

        Of equal scores the later is better: it has seen more.
        """
        if not score >= self.best:
            return False
        self.best = score
        finite = {key: float(value) for key, value in figures.items() if math.isfinite(value)}
        best = BestWeights(step, float(score), finite)
        write_text(self.folder / BEST_FILE, records.to_json(best, sort_keys=False))
        return True

    def rows(self) -> list[dict[str, str]]:
        """Return all rows; a last line that was cut short by a kill is left out."""
        if not self._path.is_file():
            return []
        with self._path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return [row for row in rows if row.get("figures") is not None and row["step"].isdigit()]

    def close(self) -> None:
        """Close the TensorBoard file."""
        if self._events:
            self._events.close()

    def _append(self, row: Sequence[Any]) -> None:
        with self._path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow(row)

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        with (
            replacing(self._path) as temporary,
            temporary.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)


def read_best(folder: Path) -> BestWeights | None:
    """Return step, score and figures of the best weights; None where there are none.

    Raises:
        ArtifactError: the file is damaged.
    """
    return records.read(BestWeights, folder / BEST_FILE, "remove it: the next validation writes it")
