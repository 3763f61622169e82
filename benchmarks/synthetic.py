"""Finding, naming and masks on synthetic scans of spines that no training has seen.

    python benchmarks/synthetic.py DATA [--json OUT.json] [--count N] [--shapes FILE.npz] [--pictures DIR]

DATA holds a CATALOG.csv; vertebrae come from its label maps of split `val` alone, also those beyond the
ends of a spine. Organs, ribs and pelvis around them come from the `train` label maps, or from numbers
where there are none. There is one scan at 1 mm per spine, and whole bodies at 2.5 mm with L6, with T13 and
without T12, head to pelvis and chest to pelvis. They go through the functions of the three stages with the
shipped weights. Counted are vertebrae that no face of the scan cuts; a missed or misnamed one has Dice 0.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import click
import numpy as np
from masks import Segmenter, dice_by_level
from naming import Namer, Outcome, failure_line
from scan_variants import MarkedScan

from payerseg.datasets.catalog import read_catalog
from payerseg.domain.landmarks import Landmarks
from payerseg.domain.vertebra import Vertebra
from payerseg.domain.volume import Volume
from payerseg.imaging.pictures import encode_png
from payerseg.report.figures import curved_views, thumbnail
from payerseg.synthesis.compose import longest_run
from payerseg.synthesis.library import (
    TORSO_FILES,
    ShapeLibrary,
    load_library,
    read_library,
    save_library,
)
from payerseg.synthesis.scans import (
    BODY_3MM,
    Extent,
    SyntheticScan,
    synthesize_from_spine,
    synthesize_spine,
)
from payerseg.synthesis.shapes import SpineShapes

ONE_SPINE = "one person's vertebrae"
ANOMALIES = {"l6": "with L6", "t13": "with T13", "no_t12": "without T12"}
BODIES, BODIES_WITH_MASKS = 10, 4
"""Scans of each anomaly; masks of two dozen vertebrae take most of the time."""
SPINE_SEED, BODY_SEED = 7000, 7100
BEYOND_MM, CUT_MM = 45.0, -5.0
_BODY = replace(BODY_3MM, spacing_mm=(2.5, 2.5, 2.5), below_mm=110.0)
VIEWS = (
    replace(_BODY, first=Vertebra.C1, above_mm=60.0),
    replace(_BODY, first=Vertebra.C7, above_mm=30.0),
)
"""Head to pelvis, chest to pelvis. With less to see nobody can tell a T13 or a missing T12: T6 to T13 look
like T5 to T12."""


@dataclass(frozen=True, slots=True)
class Result:
    """What the networks made of one synthetic scan.

    Attributes:
        naming: finding and names.
        dice: by name of the counted vertebrae, end to end; empty where no masks were made.
    """

    naming: Outcome
    dice: dict[str, float]

    @property
    def verdict(self) -> str:
        """Return "right", "flagged" (wrong, and marked for review) or "silent"."""
        if self.naming.all_right:
            return "right"
        return "flagged" if self.naming.needs_review else "silent"


Results = dict[str, list[Result]]


def read_shapes(data: Path, packed: Path | None = None) -> ShapeLibrary:
    """Return vertebrae of `val` and torsos of `train`.

    Args:
        data: holds CATALOG.csv and labels/.
        packed: kept here, and read from here when it exists.
    """
    if packed and packed.is_file():
        return load_library(packed)
    rows = [row for row in read_catalog(data) if row["folder"] == "labels"]
    unseen = [data / "labels" / row["name"] for row in rows if row["split"] == "val"]
    known = [data / "labels" / row["name"] for row in rows if row["split"] == "train"]
    whole = [folder for folder in known if any((folder / name).is_file() for name in TORSO_FILES)]
    torsos = read_library(whole).torsos if whole else ()
    library = ShapeLibrary(read_library(unseen).spines, torsos)
    if packed:
        save_library(library, packed)
    return library


Scans = Iterator[tuple[str, SyntheticScan]]


def scans_by_group(library: ShapeLibrary, count: int | None = None) -> dict[str, Scans]:
    """Return (name, scan) by group, made one at a time.

    Args:
        library: whose vertebrae.
        count: most scans per group; None = every spine, and `BODIES` of each anomaly.
    """
    spines = library.spines[:count]
    one_spine = (
        (
            spine.source,
            synthesize_from_spine(spine, library, SPINE_SEED + index, extent_of(spine)),
        )
        for index, spine in enumerate(spines)
    )
    bodies = {title: _bodies(library, name, count or BODIES) for name, title in ANOMALIES.items()}
    return {ONE_SPINE: one_spine, **bodies}


def extent_of(spine: SpineShapes) -> Extent:
    """Return a volume that shows all of a person's vertebrae whole.

    Two vertebrae of others follow beyond each end, and the face cuts the last; at the skull and at the
    sacrum there are none to follow, so the volume goes on.
    """
    run = longest_run(spine)
    to_skull = run[0].vertebra.rank <= Vertebra.C3.rank
    to_sacrum = run[-1].vertebra.rank >= Vertebra.L3.rank
    above_mm, below_mm = (BEYOND_MM if whole else CUT_MM for whole in (to_skull, to_sacrum))
    return Extent(above_mm=above_mm, below_mm=below_mm)


def _bodies(library: ShapeLibrary, anomaly: str, count: int) -> Scans:
    for index in range(count):
        view = VIEWS[index % len(VIEWS)]
        scan = synthesize_spine(library, BODY_SEED + index, anomaly, view)
        yield f"{anomaly}/{BODY_SEED + index}", scan


class Bench:
    """The three stages, and what becomes of synthetic scans in them.

    Args:
        pictures: folder for pictures of wrong scans, true and found masks; None draws none.
    """

    def __init__(self, pictures: Path | None = None) -> None:
        self.namer, self.segmenter = Namer.shipped(), Segmenter.shipped()
        self.pictures = pictures
        if pictures:
            pictures.mkdir(parents=True, exist_ok=True)

    def measure(self, name: str, scan: SyntheticScan, *, masks: bool = True) -> Result:
        """Run the stages on one scan; without `masks` only the first two."""
        cut = frozenset(Vertebra[vertebra] for vertebra in scan.cut)
        truth = Landmarks(mark for vertebra, mark in scan.landmarks.items() if vertebra not in cut)
        naming, found = self.namer.named(MarkedScan(name, scan.ct, truth, cut))
        labels = scan.ct.with_array(np.zeros_like(scan.labels.array))
        if found and masks:
            labels = self.segmenter.labels(scan.ct, found)
        scores = dice_by_level(labels, scan.labels, truth) if masks else {}
        if self.pictures and not naming.all_right:
            file = self.pictures / name.replace("/", "_")
            self._draw(scan.ct, scan.labels, scan.landmarks, file.with_suffix(".true.png"))
            self._draw(scan.ct, labels, found, file.with_suffix(".found.png"))
        return Result(naming, {v.name: round(float(d), 4) for v, d in scores.items()})

    @staticmethod
    def _draw(ct: Volume, labels: Volume, landmarks: Landmarks, file: Path) -> None:
        if landmarks:
            file.write_bytes(encode_png(thumbnail(curved_views(ct, labels, landmarks))))


HEADER = (
    "| scans | n | vertebrae | id rate % | mean mm | mean Dice | lowest | all right | wrong, flagged "
    "| wrong, silent |\n|---|---|---|---|---|---|---|---|---|---|"
)


def summary_line(title: str, results: list[Result]) -> str:
    """Return one Markdown row."""
    n_true = sum(r.naming.n_true for r in results)
    hits = sum(r.naming.n_identified for r in results)
    distances = np.concatenate([r.naming.distances_mm for r in results] or [[]])
    dice = [d for r in results for d in r.dice.values()]
    verdicts = [r.verdict for r in results]
    counts = " | ".join(str(verdicts.count(v)) for v in ("right", "flagged", "silent"))
    return (
        f"| {title} | {len(results)} | {n_true} | {100 * hits / max(n_true, 1):.1f} "
        f"| {np.mean(distances) if len(distances) else np.nan:.2f} "
        f"| {np.mean(dice) if dice else np.nan:.3f} | {min(dice, default=np.nan):.2f} | {counts} |"
    )


def level_lines(results: list[Result]) -> list[str]:
    """Return Markdown rows: Dice by level, of vertebrae that were found and of all."""
    rows = [
        "| level | n | missed | mean Dice of found | lowest of found |",
        "|---|---|---|---|---|",
    ]
    for vertebra in sorted(Vertebra, key=lambda v: v.rank):
        dice = np.array([r.dice[vertebra.name] for r in results if vertebra.name in r.dice])
        found = dice[dice > 0]
        if len(dice):
            scores = f"{found.mean():.3f} | {found.min():.2f}" if len(found) else "- | -"
            rows.append(f"| {vertebra.name} | {len(dice)} | {len(dice) - len(found)} | {scores} |")
    return rows


def report_lines(groups: Results) -> list[str]:
    """Return everything as Markdown: groups, levels, failures."""
    rows = [HEADER, *(summary_line(title, results) for title, results in groups.items())]
    rows += ["", "Masks by level, all scans:", ""]
    rows += level_lines([r for results in groups.values() for r in results])
    wrong = [r for results in groups.values() for r in results if r.verdict != "right"]
    if wrong:
        rows += ["", "Wrong scans, silent ones first:", ""]
        rows += [
            f"- {failure_line(r.naming)}"
            for r in sorted(wrong, key=lambda r: r.naming.needs_review)
        ]
    return rows


def read_results(path: Path) -> Results:
    """Read what `--json` wrote."""
    groups = json.loads(path.read_text())
    return {
        title: [Result(Outcome(**item["naming"]), item["dice"]) for item in items]
        for title, items in groups.items()
    }


@click.command(help=__doc__)
@click.argument("data", type=click.Path(path_type=Path, exists=True))
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write every result.")
@click.option("--count", type=click.IntRange(1), help="Most scans per group.")
@click.option("--shapes", type=click.Path(path_type=Path), help="Keep the measured shapes here.")
@click.option("--pictures", type=click.Path(path_type=Path), help="Draw wrong scans here.")
def main(
    data: Path,
    json_path: Path | None,
    count: int | None,
    shapes: Path | None,
    pictures: Path | None,
) -> None:
    """Measure and print."""
    bench = Bench(pictures)
    groups: Results = {}
    for title, scans in scans_by_group(read_shapes(data, shapes), count).items():
        groups[title] = []
        for name, scan in scans:
            masks = title == ONE_SPINE or len(groups[title]) < BODIES_WITH_MASKS
            result = bench.measure(name, scan, masks=masks)
            groups[title].append(result)
            click.echo(f"{name}: {result.verdict}", file=sys.stderr)
            if json_path:
                record = {t: [asdict(r) for r in results] for t, results in groups.items()}
                json_path.write_text(json.dumps(record, indent=1))
    click.echo("\n".join(report_lines(groups)))


if __name__ == "__main__":
    main()
