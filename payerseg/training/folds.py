"""Who is trained on and who is measured: split by patient, the same every time, kept in a file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from payerseg import records
from payerseg.atomic import write_text
from payerseg.errors import DatasetError

FOLDS_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Folds:
    """A division of patients into parts; fold k measures on part k and trains on the others.

    Attributes:
        parts: case ids of each part, sorted.
        seed: that drew it.
        format: of the file.
    """

    parts: tuple[tuple[str, ...], ...]
    seed: int = 0
    format: int = FOLDS_FORMAT

    def __post_init__(self) -> None:
        cases = [case for part in self.parts for case in part]
        if len(set(cases)) != len(cases):
            msg = "a case is in two folds"
            raise ValueError(msg)

    def split(self, fold: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return (training cases, validation cases) of one fold, each sorted.

        Raises:
            DatasetError: there is no such fold.
        """
        if not 0 <= fold < len(self.parts):
            msg = f"fold {fold} does not exist; there are {len(self.parts)}, counted from 0"
            raise DatasetError(msg)
        train = [case for k, part in enumerate(self.parts) if k != fold for case in part]
        return tuple(sorted(train)), self.parts[fold]

    def write(self, path: Path) -> None:
        """Write the folds as JSON."""
        write_text(path, records.to_json(self))

    @classmethod
    def read(cls, path: Path) -> Folds:
        """Read folds.

        Raises:
            DatasetError: missing, not such a file, or a case in two parts.
        """
        remedy = "expected a file written by payerseg train"
        found = records.read(cls, path, remedy, DatasetError)
        if found is None:
            msg = f"{path} holds no folds; {remedy}"
            raise DatasetError(msg)
        return found


def make_folds(patients: Mapping[str, str], n_folds: int, seed: int = 0) -> Folds:
    """Divide cases so that no patient is in two parts and the parts have about equal sizes.

    The order of the cases does not matter. Patients are taken in an order drawn from the seed and
    their names; each goes to the part with the fewest cases so far.

    Args:
        patients: case id → patient id.
        n_folds: parts, at least 2.
        seed: another seed, another division.

    Raises:
        DatasetError: fewer patients than folds.
    """
    by_patient: dict[str, list[str]] = {}
    for case, patient in patients.items():
        by_patient.setdefault(patient, []).append(case)
    if n_folds < 2 or len(by_patient) < n_folds:
        msg = f"{len(by_patient)} patients for {n_folds} folds; expected at least 2 folds, 1 each"
        raise DatasetError(msg)
    order = sorted(by_patient, key=lambda p: (-len(by_patient[p]), _draw(p, seed), p))
    parts: list[list[str]] = [[] for _ in range(n_folds)]
    for patient in order:
        min(parts, key=len).extend(by_patient[patient])
    return Folds(tuple(tuple(sorted(part)) for part in parts), seed)


def read_or_make_folds(path: Path, patients: Mapping[str, str], n_folds: int, seed: int) -> Folds:
    """Return the folds of a file; make and write them where there is no file yet.

    Raises:
        DatasetError: the file's folds are not of these cases or not as many as asked for.
    """
    if not path.is_file():
        made = make_folds(patients, n_folds, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        made.write(path)
        return made
    folds = Folds.read(path)
    known = {case for part in folds.parts for case in part}
    differ = sorted(known ^ set(patients))
    if differ or len(folds.parts) != n_folds:
        what = f"differs in {differ[0]!r}" if differ else f"has {len(folds.parts)} folds"
        msg = f"{path} {what}; remove it to divide anew, or train on the data it was made for"
        raise DatasetError(msg)
    return folds


def patients_in_both(train: Iterable[str], val: Iterable[str]) -> tuple[str, ...]:
    """Return the patients that appear on both sides; expected none."""
    return tuple(sorted(set(train) & set(val)))


def _draw(patient: str, seed: int) -> str:
    """Return a number that depends on name and seed only, not on Python's hash."""
    return hashlib.blake2b(f"{seed}/{patient}".encode(), digest_size=8).hexdigest()
