"""Would the tests notice? Break the lines that matter most, one at a time, and run the tests beside them.

    python benchmarks/mutations.py [--only PATTERN]

Works on a copy of the tree. A mutant is caught when its tests fail, and survives when they pass; that they
pass without a mutation is tried first. Ends with 1 where a mutant survives, or its line is no longer there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import click
from mutants import MUTANTS, Mutant

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("payerseg", "stages", "tests", "benchmarks", "pyproject.toml", "docs", "changelog.d")
LINKED = ("model_weights", "main_test_overlap_cropped.py", "README.md")
TESTS_FAILED = 1
LIMIT_S = 1800


@dataclass(frozen=True, slots=True)
class Tree:
    """A copy of the repository that may be broken."""

    root: Path

    @classmethod
    def of_repository(cls, root: Path) -> Tree:
        for name in COPIED:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, root / name)
        for name in LINKED:
            (root / name).symlink_to(ROOT / name)
        return cls(root)

    def passes(self, tests: tuple[str, ...]) -> bool:
        """Run tests here.

        Raises:
            ClickException: they cannot be run.
        """
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
        shared = os.environ.get("PAYERSEG_SHARED", str(ROOT.parent / "shared"))
        environment = os.environ | {"PYTHONPATH": str(self.root), "PAYERSEG_SHARED": shared}
        environment["PYTHONDONTWRITEBYTECODE"] = "1"  # two versions of one size in one second
        done = subprocess.run(
            command, cwd=self.root, env=environment, capture_output=True, text=True, timeout=LIMIT_S,
            check=False,
        )  # fmt: skip
        if done.returncode not in (0, TESTS_FAILED):
            msg = f"{' '.join(tests)}: pytest ended with {done.returncode}: {done.stdout[-800:]}"
            raise click.ClickException(msg)
        return done.returncode == 0

    def catches(self, mutant: Mutant) -> bool:
        """Tell whether a mutant's tests fail while its line is replaced."""
        path = self.root / mutant.file
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace(mutant.line, mutant.instead), encoding="utf-8")
        try:
            return not self.passes(mutant.tests)
        finally:
            path.write_text(text, encoding="utf-8")


def stands_once(mutant: Mutant) -> bool:
    """Tell whether a mutant's line is where it is said to be."""
    path = ROOT / mutant.file
    return path.is_file() and path.read_text(encoding="utf-8").count(mutant.line) == 1


@click.command()
@click.option("--only", default="", help="Mutants whose file or line holds this text.")
def main(only: str) -> None:
    """Run the mutants."""
    chosen = [mutant for mutant in MUTANTS if only in f"{mutant.file} {mutant.line}"]
    lost = [mutant for mutant in chosen if not stands_once(mutant)]
    for mutant in lost:
        print(f"no such line, or twice | {mutant}", flush=True)
    survived = 0
    with tempfile.TemporaryDirectory(prefix="payerseg-mutations-") as name:
        tree = Tree.of_repository(Path(name))
        tests = tuple(sorted({test for mutant in chosen for test in mutant.tests}))
        if not tree.passes(tests):
            msg = f"the tests fail without a mutation: {' '.join(tests)}"
            raise click.ClickException(msg)
        for mutant in (m for m in chosen if m not in lost):
            caught = tree.catches(mutant)
            survived += not caught
            print(f"{'caught  ' if caught else 'SURVIVED'} | {mutant}", flush=True)
    print(f"{len(chosen)} mutants, {survived} survived, {len(lost)} without their line")
    sys.exit(1 if survived or lost else 0)


if __name__ == "__main__":
    main()
