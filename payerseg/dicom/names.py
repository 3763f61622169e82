"""What a series is called: after its folder, never after its patient. Standard library only."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

_ALLOWED = re.compile(r"[^A-Za-z0-9._-]+")


def source_name(source: Path) -> str:
    """Return the name of a folder, or of a zip or file without its ending."""
    name = source.name if source.is_dir() else source.stem
    return _clean(name) or "dicom"


def series_names(source: Path, series: Sequence[tuple[Sequence[str], str]]) -> list[str]:
    """Name the volumes of one input.

    A single one has the name of the input. Several are named after the folder their files share, with
    the series number where that is not enough; names are the same in every run as long as the files are.

    Args:
        source: folder, zip or file.
        series: for each volume its files and its number ("3", "3/2", "?").

    Returns:
        As many different names, of letters, digits, ".", "_" and "-".
    """
    root = source_name(source)
    if len(series) == 1:
        return [root]
    bases = [_place(members) for members, _ in series]
    shared = Counter(bases)
    prefix = f"{root}_" if source.is_file() else ""
    names = []
    for base, (_, number) in zip(bases, series, strict=True):
        suffix = f"series{_clean(number.replace('/', '-')) or 'X'}"
        whole = f"{prefix}{base}" if base else root
        names.append(f"{whole}_{suffix}" if shared[base] > 1 or not base else whole)
    return distinct_names(names)


def _place(members: Sequence[str]) -> str:
    """Return the deepest folder that all files share, "" for the root, in one word."""
    folders = [PurePosixPath(name.replace("\\", "/")).parent.as_posix() for name in members]
    common = os.path.commonpath(folders) if len({f.startswith("/") for f in folders}) == 1 else ""
    parts = [_clean(part) for part in PurePosixPath(common).parts]
    return "_".join(part for part in parts if part)


def distinct_names(names: Sequence[str]) -> list[str]:
    """Return names with "-2", "-3" after repeated ones."""
    seen: Counter[str] = Counter()
    out = []
    for name in names:
        seen[name] += 1
        out.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return out


def _clean(name: str) -> str:
    return _ALLOWED.sub("_", name).strip("._-")
