"""Run every input of `shared/cases`, and faults made at random, and tell whether each outcome is right.

    python benchmarks/faults.py OUT [--part PART] [--only SCRIPT] [--json OUT.json]

Parts: `cases` are the scripts of `shared/cases`; the others are slow tests, see `fault_rows.py`.
The part `cases` makes the inputs with the scripts of `shared/cases` (`PAYERSEG_SHARED`, default
`../shared`) in OUT/in, runs the commands on them, and prints a row each: case, outcome, verdict. What is
right stands in `fault_cases.py`. A traceback, exit code 1 or a missing outcome is wrong whatever is
declared; an `ok` whose names are not those of the marked centres is wrong, too. Ends with 1 where a
verdict is wrong.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from types import MappingProxyType
from typing import Any

import click
import numpy as np
from fault_cases import EVERYTHING, PLACED, Commands, Scans
from fault_rows import PARTS, Row, print_row, run_tests

from payerseg.domain.landmarks import Landmarks
from payerseg.imaging.files import SCAN_ENDINGS
from payerseg.results.artifacts import CT, LANDMARKS_CSV, SCAN
from payerseg.results.case_folder import CaseFolder
from payerseg.results.formats import read_artifact

CASES = "cases"
LIMIT_S = 3600
NAMED_MM = 20.0
OK = "ok"
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
CRASHES = ("Traceback (most recent call last)", "this is a bug")
REPOSITORY = Path(__file__).parents[1]
SHARED = Path(os.environ.get("PAYERSEG_SHARED", REPOSITORY.parent / "shared"))


class Bench:
    """The folders of one campaign, and how commands are run in it."""

    def __init__(self, out: Path, shared: Path) -> None:
        """Nothing is made yet."""
        self.out, self.shared, self._works = out.resolve(), shared.resolve(), 0

    def make(self, script: str, arguments: tuple[str, ...] = (), into: str = "") -> Path:
        """Run a script of the cases, if that was not done before; return its OUT."""
        folder = self.out / "in" / (into or script)
        made = self.out / "in" / f".made_{folder.name}"
        if made.is_file() and not into.startswith(".."):
            return folder
        words = [word.format(data=self.shared / "data") for word in arguments]
        path = self.shared / "cases" / f"{script}.py"
        command = [sys.executable, "-W", "ignore", str(path), str(folder), *words]
        done = subprocess.run(command, cwd=path.parent, capture_output=True, text=True, check=False)
        if done.returncode:
            msg = f"{script} cannot make its inputs: {done.stderr[-400:]}"
            raise click.ClickException(msg)
        made.touch()
        return folder

    def payerseg(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a command of payerseg."""
        command = [sys.executable, "-m", "payerseg", *map(str, words)]
        done = subprocess.run(
            command, capture_output=True, check=False, timeout=LIMIT_S, cwd=self.out,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        )  # fmt: skip
        output, errors = (text.decode(errors="replace") for text in (done.stdout, done.stderr))
        return subprocess.CompletedProcess(command, done.returncode, output, errors)

    def work(self) -> Path:
        """Return a folder that is not there yet."""
        self._works += 1
        folder = self.out / "work" / f"{self._works:03d}"
        shutil.rmtree(folder, ignore_errors=True)
        return folder


@dataclass(frozen=True, slots=True)
class Ran:
    """One `payerseg run`: where its results lie, how each case ended, and all that it said."""

    results: Path
    code: int
    cases: dict[str, dict[str, Any]]
    notices: list[str]
    output: str

    def said(self, case: str) -> str:
        """Return the message of a case; of the run where that has no such case."""
        if case in self.cases:
            return str(self.cases[case]["message"])
        return (self.output.strip().splitlines() or [""])[-1]


def run_scans(bench: Bench, inputs: Path, to_stage: str) -> Ran:
    """Run the pipeline up to a stage; "" = all of it."""
    results = bench.work()
    until = ("--to-stage", to_stage) if to_stage else ()
    done = bench.payerseg("run", inputs, "-o", results, "--json", *until)
    output = done.stdout + done.stderr
    try:
        summary = json.loads(done.stdout)
    except ValueError:
        return Ran(results, done.returncode, {}, [], output)
    cases = {case["case_id"]: case for case in summary["cases"]}
    return Ran(results, done.returncode, cases, summary["notices"], output)


def together_rows(bench: Bench, scans: list[Scans], to_stage: str) -> Iterator[Row]:
    """Run scripts that write whole scans together: networks are loaded once."""
    gathered, owners = bench.out / "in" / "_scans", dict[str, tuple[Scans, Path]]()
    shutil.rmtree(gathered, ignore_errors=True)
    gathered.mkdir(parents=True)
    for item in scans:
        folder = bench.make(item.script, item.arguments, item.alias + item.script)
        for path in sorted(folder.glob("*.nii.gz")):
            case = item.alias + path.name.removesuffix(".nii.gz")
            (gathered / f"{case}.nii.gz").symlink_to(path)
            owners[case] = item, path
    ran = run_scans(bench, gathered, to_stage)
    for case, (item, path) in owners.items():
        yield judge(item, case, ran, truth=truth_of(path))


def folder_rows(bench: Bench, item: Scans) -> Iterator[Row]:
    """Run one script's folder."""
    folder = bench.make(item.script, item.arguments) / item.folder
    names = (path.name for path in folder.iterdir() if path.is_file() and not path.is_symlink())
    found = sorted({_stem(name) for name in names if name.endswith(SCAN_ENDINGS)})
    ran = run_scans(bench, folder, item.to_stage)
    for case in found:
        yield judge(item, case, ran)


def study_rows(bench: Bench, item: Scans) -> Iterator[Row]:
    """Run each folder of a script by itself; a row each, of the worst of its cases."""
    out = bench.make(item.script, item.arguments)
    for folder in sorted(path for path in out.iterdir() if path.is_dir()):
        ran = run_scans(bench, folder, item.to_stage)
        rows = [judge(item, case, ran, folder.name) for case in sorted(ran.cases) or [""]]
        outcomes = Counter(row.outcome for row in rows)
        told = [f"{count} x {name}" if len(rows) > 1 else name for name, count in outcomes.items()]
        yield replace(min(rows, key=lambda row: bool(row.right)), outcome=", ".join(told))


def judge(
    item: Scans,
    case: str,
    ran: Ran,
    folder: str = "",
    truth: Mapping[str, np.ndarray] = MappingProxyType({}),
) -> Row:
    """Hold one case against what is right for it.

    Args:
        item: its script.
        case: its id; "" where the run has no case.
        ran: the run.
        folder: its study; "" where it has none.
        truth: marked centres by name, where names are to be held against them.
    """
    names = (folder, f"{folder}/{case}") if folder else (case.removeprefix(item.alias),)
    right = next(r for r in item.rights if any(fnmatch(name, r.case) for name in names))
    outcome = ran.cases[case]["status"] if case in ran.cases else f"exit {ran.code}"
    record = CaseFolder(ran.results / case, case)
    path = record.path(SCAN)
    scan = read_artifact(SCAN, path) if case and path.is_file() else None
    said = [ran.said(case), *ran.notices]
    said += [f"{note.code}: {note.message}" for note in scan.notes] if scan is not None else []
    faults = [] if any(fnmatch(outcome, s) for s in right.statuses) else ["status"]
    faults += ["exit 1"] if ran.code == 1 else []
    faults += [f"says {text!r}" for text in CRASHES if text in ran.output]
    if right.says and not re.search(right.says, "\n".join(said), re.IGNORECASE):
        faults.append(f"does not say {right.says!r}")
    if right.finds and sorted(ran.cases) != sorted(right.finds):
        faults.append(f"finds {sorted(ran.cases)}")
    if right.slices and scan is not None and scan.ct_grid.shape[0] != right.slices:
        faults.append(f"{scan.ct_grid.shape[0]} slices, expected {right.slices}")
    if right.same_as and not _is_same(record, right.same_as):
        faults.append(f"its CT is not that of {right.same_as}")
    stages = ran.cases.get(case, {}).get("stages", {})
    peak_mb = max((stage["peak_rss_mb"] for stage in stages.values()), default=0)
    faults += [f"takes {peak_mb} MB"] if right.peak_mb and peak_mb > right.peak_mb else []
    if outcome in (OK, PLACED) and truth:
        faults += wrong_names(read_artifact(LANDMARKS_CSV, record.path(LANDMARKS_CSV)), truth)
    if right.hides and (right.hides in ran.output or _holds(ran.results, right.hides)):
        faults.append(f"shows {right.hides!r}")
    faults += [f"{name} has a formula" for name in tables_with_formulas(ran.results)]
    name = folder or case
    told = ran.said(case) if case in ran.cases or faults else ""
    return Row(item.alias + item.script, name, outcome, not faults, "; ".join([*faults, told]))


def _is_same(record: CaseFolder, other: str) -> bool:
    """Tell whether the prepared CTs of two cases are equal to 1 HU, in shape and spacing."""
    sibling = CaseFolder(record.root.with_name(other), other)
    one, two = (read_artifact(CT, folder.path(CT)) for folder in (record, sibling))
    spacing = np.subtract(one.grid.spacing_mm, two.grid.spacing_mm)
    same_grid = one.grid.shape == two.grid.shape and np.abs(spacing).max() < 1e-3
    return same_grid and bool(np.abs(np.subtract(one.array, two.array, dtype=float)).max() <= 1)


def _holds(folder: Path, text: str) -> bool:
    files = (path for path in folder.rglob("*") if path.is_file())
    return any(text.encode() in path.read_bytes() for path in files)


def tables_with_formulas(results: Path) -> list[str]:
    """Return the tables of a results folder with a case id that a spreadsheet would compute."""
    found = []
    for path in sorted(results.glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            if any(row[0].startswith(FORMULA_STARTS) for row in csv.reader(file) if row):
                found.append(path.name)
    return found


def command_rows(bench: Bench, item: Commands) -> Iterator[Row]:
    """Run commands of which none may crash."""
    out = bench.make(item.script)
    folders = sorted(out.glob(item.each)) if item.each else [out]
    for folder in folders:
        for command in item.commands:
            places = {"out": out, "folder": folder, "work": bench.work()}
            words = [word.format(**places) for word in shlex.split(command)]
            done = bench.payerseg(*words)
            text = done.stdout + done.stderr
            right = next(r for r in item.rights if fnmatch(folder.name, r.case))
            faults = [f"says {crash!r}" for crash in CRASHES if crash in text]
            faults += [] if done.returncode in right.codes else [f"expected {right.codes}"]
            faults += [] if re.search(right.says, text) else [f"does not say {right.says!r}"]
            last = text.strip().splitlines()[-1:]
            said, case = "; ".join([*faults, *last]), f"{folder.name}: {words[0]}"
            yield Row(item.script, case, f"exit {done.returncode}", not faults, said)


def truth_of(scan: Path) -> dict[str, np.ndarray]:
    """Return the marked centres, LPS mm, that a script wrote beside its scan."""
    path = scan.with_name(scan.name.replace(".nii.gz", ".truth.json"))
    if not path.is_file():
        return {}
    return {name: np.array(p) for name, p in json.loads(path.read_text())["landmarks"].items()}


def wrong_names(found: Landmarks, truth: dict[str, np.ndarray]) -> list[str]:
    """Return the marked vertebrae whose nearest found one has another name."""
    wrong = []
    for name, point in truth.items():
        apart = {v: np.linalg.norm(point - mark.position_mm) for v, mark in found.items()}
        nearest = min(apart, key=lambda v: apart[v], default=None)
        if nearest is not None and apart[nearest] < NAMED_MM and nearest.name != name:
            wrong.append(f"{nearest.name} lies at {name}")
    return wrong


def _stem(name: str) -> str:
    return re.sub(r"\.(nii\.gz|nii|mha|mhd|nrrd)$", "", name)


def rows_of(bench: Bench, items: list[Scans | Commands]) -> Iterator[Row]:
    """Run everything that is declared for these scripts."""
    scans = [item for item in items if isinstance(item, Scans)]
    together = [item for item in scans if item.layout == "together"]
    for stage in dict.fromkeys(item.to_stage for item in together):
        yield from together_rows(bench, [i for i in together if i.to_stage == stage], stage)
    for item in scans:
        if item.layout != "together":
            yield from (folder_rows if item.layout == "folder" else study_rows)(bench, item)
    for item in items:
        if isinstance(item, Commands):
            yield from command_rows(bench, item)


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--part", "parts", multiple=True, type=click.Choice([CASES, *PARTS]), help="Default: all."
)
@click.option("--only", multiple=True, help="Of the part `cases` only these scripts; patterns.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the rows here.")
def main(out: Path, parts: tuple[str, ...], only: tuple[str, ...], json_path: Path | None) -> None:
    """Run the campaign."""
    rows: list[Row] = []

    def tell(row: Row) -> None:
        print_row(row)
        rows.append(row)

    parts = parts or ((CASES,) if only else (CASES, *PARTS))
    if CASES in parts:
        present = [i for i in EVERYTHING if (SHARED / "cases" / f"{i.script}.py").is_file()]
        chosen = [i for i in present if not only or any(fnmatch(i.script, name) for name in only)]
        if not chosen:
            msg = f"no script of {SHARED / 'cases'} is chosen"
            raise click.ClickException(msg)
        for row in rows_of(Bench(out, SHARED), chosen):
            tell(row)
    tests = [part for part in parts if part != CASES]
    if tests:
        run_tests(tests, tell)
    wrong = [row for row in rows if row.right is False]
    print(f"{len(rows)} rows, {len(wrong)} wrong")
    if json_path:
        json_path.write_text(json.dumps([asdict(row) for row in rows], indent=1), encoding="utf-8")
    sys.exit(1 if wrong or not rows else 0)


if __name__ == "__main__":
    main()
