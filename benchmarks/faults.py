"""Run every input of `shared/cases` through payerseg, and tell whether each outcome is right.

    python benchmarks/faults.py OUT [--only SCRIPT] [--json OUT.json]

Makes the inputs with the scripts of `shared/cases` (`PAYERSEG_SHARED`, default `../shared`) in OUT/in, runs
the commands on them, and prints a row each: case, outcome, verdict. What is right stands in
`fault_cases.py`. A traceback, exit code 1 or a missing outcome is wrong whatever is declared; an `ok` whose
names are not those of the marked centres is wrong, too. Ends with 1 where a verdict is wrong.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import click
import numpy as np
from fault_cases import EVERYTHING, OK, Commands, Scans

from payerseg.domain.landmarks import Landmarks
from payerseg.imaging.files import SCAN_ENDINGS
from payerseg.results.artifacts import LANDMARKS_CSV, SCAN
from payerseg.results.case_folder import CaseFolder
from payerseg.results.formats import read_artifact

LIMIT_S = 3600
NAMED_MM = 20.0
CRASHES = ("Traceback (most recent call last)", "this is a bug")
SHARED = Path(os.environ.get("PAYERSEG_SHARED", Path(__file__).parents[1].parent / "shared"))
RESULTS_OF = ("verse005", "verse006")
"""Scans of the shared data whose finished results are damaged."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    script: str
    case: str
    outcome: str
    right: bool
    said: str = ""

    def __str__(self) -> str:
        verdict = "right" if self.right else "WRONG"
        said = " ".join(self.said.split())
        return f"{verdict} | {self.script} | {self.case} | {self.outcome} | {said[:160]}"


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
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        )  # fmt: skip
        output, errors = (text.decode(errors="replace") for text in (done.stdout, done.stderr))
        return subprocess.CompletedProcess(command, done.returncode, output, errors)

    def work(self) -> Path:
        """Return a folder that is not there yet."""
        self._works += 1
        folder = self.out / "work" / f"{self._works:03d}"
        shutil.rmtree(folder, ignore_errors=True)
        return folder

    def results(self) -> Path:
        """Return finished results of a few scans; their inputs and truth lie beside them."""
        folder = self.out / "finished"
        if not (folder / RESULTS_OF[0] / "status.json").is_file():
            for kind, place, ending in (
                ("ct", "finished_in", ""),
                ("masks", "finished_truth", "_seg"),
            ):
                (self.out / place).mkdir(parents=True, exist_ok=True)
                for name in RESULTS_OF:
                    source = self.shared / "data" / kind / f"{name}{ending}.nii.gz"
                    shutil.copy(source, self.out / place / source.name)
            self.payerseg("run", self.out / "finished_in", "-o", folder)
        return folder


def scan_rows(bench: Bench, scans: list[Scans]) -> Iterator[Row]:
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
    results = bench.work()
    ended = _cases(bench.payerseg("run", gathered, "-o", results, "--json"))
    for case, (item, path) in owners.items():
        yield judge(item, case, ended, results, truth_of(path))


def folder_rows(bench: Bench, item: Scans) -> Iterator[Row]:
    """Run one script's folder, or each of its studies, up to preparation."""
    out = bench.make(item.script, item.arguments)
    folders = (
        sorted(path for path in out.iterdir() if path.is_dir())
        if item.studies
        else [out / item.folder]
    )
    for folder in folders:
        results = bench.work()
        words = ("-o", results, "--json", "--to-stage", "preparation")
        done = bench.payerseg("run", folder, *words)
        ended = _cases(done)
        if item.studies:
            cases = [case for case in ended if case] or [folder.name]
            rows = [judge(item, case, ended, results, {}, folder.name) for case in cases]
            wrong = [row for row in rows if not row.right]
            yield (wrong or rows)[0]
            continue
        names = (path.name for path in folder.iterdir() if path.is_file() and not path.is_symlink())
        found = sorted({_stem(name) for name in names if name.endswith(SCAN_ENDINGS)})
        for case in found:
            yield judge(item, case, ended, results, {})


def judge(
    item: Scans,
    case: str,
    ended: dict[str, dict[str, Any]],
    results: Path,
    truth: dict[str, np.ndarray],
    folder: str = "",
) -> Row:
    """Hold one case against what is right for it."""
    name = folder or case
    if case not in ended:
        outcome, message = (
            ended.get("", {}).get("status", "no outcome"),
            ended.get("", {}).get("message", ""),
        )
    else:
        outcome, message = ended[case]["status"], ended[case]["message"]
    right = next(r for r in item.rights if fnmatch(name.removeprefix(item.alias), r.case))
    faults = [] if any(fnmatch(outcome, s) for s in right.statuses) else ["status"]
    if right.says and not re.search(right.says, message, re.IGNORECASE):
        faults.append(f"does not say {right.says!r}")
    faults += [text for text in CRASHES if text in message]
    record = CaseFolder(results / case, case)
    if right.slices and record.path(SCAN).is_file():
        slices = max(read_artifact(SCAN, record.path(SCAN)).ct_grid.shape[0], 0)
        faults += [f"{slices} slices, expected {right.slices}"] if slices != right.slices else []
    if outcome == OK and truth and record.path(LANDMARKS_CSV).is_file():
        faults += wrong_names(read_artifact(LANDMARKS_CSV, record.path(LANDMARKS_CSV)), truth)
    said = f"{', '.join(faults)}: {message}" if faults else message
    return Row(item.alias + item.script, name, outcome, not faults, said)


def command_rows(bench: Bench, item: Commands) -> Iterator[Row]:
    """Run commands of which none may crash."""
    out = bench.results() if item.of_results else bench.make(item.script)
    if item.of_results:
        bench.make(item.script, into=f"../{out.name}")
        out = out.with_name(f"{out.name}_damaged")
    folders = sorted(out.glob(item.each)) if item.each else [out]
    for folder in folders:
        places = {
            "out": out, "folder": folder, "case": RESULTS_OF[0],
            "inputs": bench.out / "finished_in", "truth": bench.out / "finished_truth",
        }  # fmt: skip
        for command in item.commands:
            words = [word.format(work=bench.work(), **places) for word in shlex.split(command)]
            done = bench.payerseg(*words)
            text = done.stdout + done.stderr
            wanted = next(
                (say for name, say in item.says.items() if fnmatch(folder.name, name)), ""
            )
            faults = [crash for crash in CRASHES if crash in text]
            faults += [] if done.returncode in item.codes else [f"expected {item.codes}"]
            faults += [] if re.search(wanted, text) else [f"does not say {wanted!r}"]
            last = text.strip().splitlines()[-1:] or [""]
            case = f"{folder.name}: {words[0]}"
            said = f"{', '.join(faults)}: {last[0]}" if faults else last[0]
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


def _cases(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    """Return what a run says of its cases; under "" what it says where it refused."""
    crashed = done.returncode == 1 or any(text in done.stdout + done.stderr for text in CRASHES)
    said = (done.stderr.strip().splitlines() or [""])[-1]
    try:
        summary = json.loads(done.stdout)
    except ValueError:
        return {"": {"status": f"exit {done.returncode}", "message": done.stderr[-2000:]}}
    cases = {case["case_id"]: case for case in summary["cases"]}
    if crashed:
        cases = {name: case | {"status": "crash", "message": said} for name, case in cases.items()}
    return cases | {"": {"status": f"exit {done.returncode}", "message": said}}


def _stem(name: str) -> str:
    return re.sub(r"\.(nii\.gz|nii|mha|mhd|nrrd)$", "", name)


def rows_of(bench: Bench, items: list[Scans | Commands]) -> Iterator[Row]:
    """Run everything that is declared for these scripts."""
    whole = [item for item in items if isinstance(item, Scans) and not item.to_preparation]
    if whole:
        yield from scan_rows(bench, whole)
    for item in items:
        if isinstance(item, Commands):
            yield from command_rows(bench, item)
        elif item.to_preparation:
            yield from folder_rows(bench, item)


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--only", multiple=True, help="Only these scripts; patterns.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the rows here.")
def main(out: Path, only: tuple[str, ...], json_path: Path | None) -> None:
    """Run the campaign."""
    present = [item for item in EVERYTHING if (SHARED / "cases" / f"{item.script}.py").is_file()]
    chosen = [i for i in present if not only or any(fnmatch(i.script, name) for name in only)]
    if not chosen:
        msg = f"no script of {SHARED / 'cases'} is chosen"
        raise click.ClickException(msg)
    bench, rows = Bench(out, SHARED), []
    for row in rows_of(bench, chosen):
        print(row, flush=True)
        rows.append(row)
    wrong = [row for row in rows if not row.right]
    print(f"{len(rows)} rows, {len(wrong)} wrong")
    if json_path:
        json_path.write_text(json.dumps([asdict(row) for row in rows], indent=1), encoding="utf-8")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
