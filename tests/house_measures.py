"""What the house measures: `python tests/house_measures.py` prints it.

Lines of Python, files, the code that `payerseg run` on a NIfTI may reach, the way from the entry script
to a written mask, circles of imports. `test_measures` holds the bounds, docs/adr/0018 says why.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
STARTS = (
    "payerseg.cli.run",
    "stages.preparation",
    "stages.spine_localization",
    "stages.vertebrae_localization",
    "stages.vertebrae_segmentation",
    "stages.quality_report",
)
NOT_FOR_NIFTI = (
    "payerseg.dicom",
    "payerseg.driver.dicom_inputs",
    "payerseg.exports.bids",
    "payerseg.exports.dicom_seg",
    "payerseg.exports.folders",
    "payerseg.exports.meshes",
    "stages.dicom_inventory",
)
"""Used for DICOM inputs, or for `--export`."""


def modules() -> dict[str, Path]:
    """Return every module of the product: dotted name to file."""
    files = [*(REPOSITORY / "payerseg").rglob("*.py"), *(REPOSITORY / "stages").rglob("*.py")]
    found = {}
    for file in sorted([*files, REPOSITORY / "main_test_overlap_cropped.py"]):
        parts = file.relative_to(REPOSITORY).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imports_of(tree: ast.Module, known: Iterable[str], *, at_import: bool) -> set[str]:
    """Return the product's modules that a module imports.

    Args:
        tree: parsed.
        known: names of modules.
        at_import: only what importing it imports; else what its functions import as well.
    """
    names: set[str] = set()
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.FunctionDef) and at_import:
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        waiting += ast.iter_child_nodes(node)
    return names & set(known)


def import_graph(*, at_import: bool) -> dict[str, set[str]]:
    """Return module to the modules it imports."""
    known = modules()
    trees = {name: ast.parse(file.read_text(encoding="utf-8")) for name, file in known.items()}
    return {name: imports_of(tree, known, at_import=at_import) for name, tree in trees.items()}


def reachable(
    graph: dict[str, set[str]], starts: Iterable[str], closed: tuple[str, ...]
) -> set[str]:
    """Return every module that can be imported from the starts, without passing what is closed."""
    seen: set[str] = set()
    waiting = list(starts)
    while waiting:
        name = waiting.pop()
        if name not in seen and not name.startswith(closed):
            seen.add(name)
            waiting += graph[name]
    return seen


def circles(graph: dict[str, set[str]]) -> list[tuple[str, ...]]:
    """Return the groups of modules that import each other, directly or in a round."""
    below = {name: reachable(graph, graph[name], ()) if graph[name] else set() for name in graph}
    inside = [name for name in graph if name in below[name]]
    groups = {tuple(sorted(n for n in inside if n in below[m] and m in below[n])) for m in inside}
    return sorted(groups)


def code_lines(text: str) -> int:
    """Count the lines of a source that hold code: no blank ones, no comments, no docstrings."""
    lines = {n for n, line in enumerate(text.splitlines(), 1) if line.split("#")[0].strip()}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            lines -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


def decision() -> str:
    """Return the page that describes the plan of the house."""
    return (REPOSITORY / "docs" / "adr" / "0018-the-house.md").read_text(encoding="utf-8")


def way_to_a_mask() -> list[str]:
    """Return the files from the entry script to a written mask, in the order that the decision lists."""
    way = decision().partition("## The way to a mask")[2].partition("\n## ")[0]
    return re.findall(r"^\d+\. `([^`]+)`", way, re.MULTILINE)


def measures() -> dict[str, int]:
    """Return name to figure."""
    files = {name: file for name, file in modules().items() if "." in name or name == "payerseg"}
    texts = {name: file.read_text(encoding="utf-8") for name, file in files.items()}
    used = reachable(import_graph(at_import=False), STARTS, NOT_FOR_NIFTI)
    return {
        "lines": sum(text.count("\n") for text in texts.values()),
        "files": len(texts),
        "code lines reachable from a run on a NIfTI": sum(
            code_lines(file.read_text(encoding="utf-8"))
            for name, file in modules().items()
            if name in used
        ),
        "files from the entry script to a written mask": len(way_to_a_mask()),
        "circles of imports": len(circles(import_graph(at_import=True))),
    }


def rooms() -> dict[str, tuple[int, int]]:
    """Return room to its files and lines."""
    found: dict[str, tuple[int, int]] = {}
    for name, file in modules().items():
        parts = name.split(".")
        room = parts[1] if parts[0] == "payerseg" and file.parent.name != "payerseg" else parts[0]
        files, lines = found.get(room, (0, 0))
        found[room] = files + 1, lines + file.read_text(encoding="utf-8").count("\n")
    return found


if __name__ == "__main__":
    for what, figure in measures().items():
        print(f"{what:<50}{figure:>7}")
    for room, (n_files, n_lines) in rooms().items():
        print(f"  {room:<48}{n_files:>4} files{n_lines:>7} lines")
