"""The tree as these tests see it: every source file, parsed once."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Source:
    """One parsed file.

    Attributes:
        path: relative to the repository.
        imports: (dotted name, line), `from a.b import c` as "a.b.c" and relative ones not at all.
    """

    path: Path
    tree: ast.Module
    text: str
    imports: tuple[tuple[str, int], ...]

    @property
    def module(self) -> str:
        """Dotted module name."""
        parts = self.path.with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @property
    def room(self) -> str:
        """First folder (or file) under payerseg, or "stages", or the main script's name."""
        parts = self.path.with_suffix("").parts
        return parts[1] if parts[0] == "payerseg" else parts[0]


def read_source(path: Path) -> Source:
    text = (REPOSITORY / path).read_text(encoding="utf-8")
    tree = ast.parse(text, str(path))
    names: list[tuple[str, int]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names += [(f"{node.module}.{alias.name}", node.lineno) for alias in node.names]
    return Source(path, tree, text, tuple(names))


def sources_in(*places: str) -> list[Source]:
    """Every Python file in the named folders or files."""
    found: list[Source] = []
    for place in places:
        root = REPOSITORY / place
        paths = sorted(root.rglob("*.py")) if root.is_dir() else [root] if root.is_file() else []
        found += [read_source(path.relative_to(REPOSITORY)) for path in paths]
    return found


@pytest.fixture(scope="session")
def product() -> list[Source]:
    """Library, programs and the main script."""
    return sources_in("payerseg", "stages", "main_test_overlap_cropped.py")


@pytest.fixture(scope="session")
def all_sources() -> list[Source]:
    """The product and its tests."""
    return sources_in("payerseg", "stages", "main_test_overlap_cropped.py", "tests", "benchmarks")
