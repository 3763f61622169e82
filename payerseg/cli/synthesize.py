"""`payerseg synthesize`: endless labelled CT-like scans."""

from __future__ import annotations

from pathlib import Path

import click

from payerseg.errors import UsageError

# The same words as payerseg.synthesis.library and negatives, which need numpy; a test compares them.
VARIANTS = (
    "usual", "l6", "t13", "no_t12", "sacralised", "scoliosis", "kyphosis", "fracture", "fused",
)  # fmt: skip
NEGATIVES = ("noise", "air", "water", "thigh", "lung", "head")
VIEWS = ("body", "spine", "one")


@click.command()
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--labels", "folders", multiple=True, type=click.Path(exists=True, path_type=Path),
    help="Label-map folder with vert.nii.gz (VerSe labels) and maybe all.nii.gz (TotalSegmentator v2 "
    "ids), a folder of such folders, or a file of --pack; repeatable.",
)  # fmt: skip
@click.option(
    "--catalog", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="CSV with name (of a label-map folder), source and licence, which model cards will name.",
)  # fmt: skip
@click.option(
    "--phantom", is_flag=True, help="Vertebrae and body from numbers alone; needs no data."
)
@click.option("--count", default=1, show_default=True, type=click.IntRange(min=0), help="Scans.")
@click.option("--seed", default=0, show_default=True, help="Of the first scan; the next adds one.")
@click.option(
    "--variant", "variants", multiple=True, type=click.Choice([*VARIANTS, *NEGATIVES, "mixed"]),
    help="Kind of spine, or of a volume without one; several take turns.  [default: usual]",
)  # fmt: skip
@click.option(
    "--view", type=click.Choice(VIEWS), default="body", show_default=True,
    help="body: torso, random field of view. spine: 150 mm wide about a whole spine. "
    "one: about the vertebrae of one label map.",
)  # fmt: skip
@click.option(
    "--spacing", type=click.FloatRange(0.4, 8.0), help="mm.  [default: 3 for body, else 1]"
)
@click.option("--pack", type=click.Path(dir_okay=False, path_type=Path), help="Keep the shapes read "
              "from --labels in this .npz; give it to --labels the next time.")  # fmt: skip
def synthesize(
    *, out: Path, folders: tuple[Path, ...], catalog: Path | None, phantom: bool, count: int, seed: int,
    variants: tuple[str, ...], view: str, spacing: float | None, pack: Path | None,
) -> None:  # fmt: skip
    """Write COUNT synthetic scans with masks and points into OUT, laid out for `payerseg train`.

    A scan is decided by its seed and the shapes; scans that OUT holds already are left alone.
    """
    from payerseg.synthesis.dataset import ScanRecipe, gather_library, read_origins
    from payerseg.synthesis.library import save_library

    if phantom == bool(folders):
        msg = "give either --labels (one or more) or --phantom"
        raise UsageError(msg)
    wanted = variants or ("usual",)
    wanted = VARIANTS if "mixed" in wanted else wanted
    library = gather_library(folders)
    origins = read_origins(catalog) if catalog else {}
    if pack is not None:
        save_library(library, pack)
        click.echo(f"{pack}: {len(library.spines)} spines, {len(library.torsos)} torsos")
    for index in range(count):
        recipe = ScanRecipe(wanted[index % len(wanted)], view, spacing, seed + index)
        done = recipe.write(library, out, origins)
        click.echo(f"{index + 1}/{count} {recipe.case_id}{'' if done else ' (there already)'}")
