"""`payerseg report`: the page of a whole results folder, and the ratings that people made on it."""

from __future__ import annotations

from pathlib import Path

import click

from payerseg.atomic import write_text
from payerseg.driver.inputs import remembered_cases
from payerseg.driver.run_folder import runs_in_order
from payerseg.driver.settings import HOUSE_FOLDER
from payerseg.errors import UsageError

PAGE_FILE = "report.html"


@click.command()
@click.argument(
    "results", metavar="OUT", type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.option(
    "--ratings",
    "ratings_files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Ratings file saved from the page; repeatable. Merged into OUT/ratings.json, the latest "
    "rating of a case counts.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to write the page; its links to case pages work from OUT only. "
    "[default: OUT/report.html]",
)
def report(*, results: Path, ratings_files: tuple[Path, ...], output: Path | None) -> None:
    """Write one page over all cases of OUT, an output folder of `payerseg run`.

    Open it by double-click: sort and filter the cases, see what stands out, rate each one with the keys
    p (pass), f (fail) and u (unsure), and save the ratings as a file.
    """
    from payerseg.report.cohort import cohort_page
    from payerseg.report.cohort_cases import read_case
    from payerseg.report.ratings import RATINGS_FILE, merge_ratings, ratings_json, read_ratings

    cases = [read_case(results, case.case_id) for case in remembered_cases(results)]
    if not cases:
        msg = f"{results} holds no case; expected the output folder of `payerseg run`"
        raise UsageError(msg)
    kept = results / RATINGS_FILE
    sources = [read_ratings(path) for path in (*([kept] if kept.is_file() else []), *ratings_files)]
    ratings = merge_ratings(sources)
    if ratings_files:
        write_text(kept, ratings_json(ratings))
        click.echo(f"{kept}: {len(ratings)} rating(s)")
    strangers = sorted(set(ratings) - {case.case_id for case in cases})
    if strangers:
        click.echo(f"rated, but not in {results}: {', '.join(strangers)}", err=True)
    page = output or results / PAGE_FILE
    name = results.resolve().name
    write_text(page, cohort_page(name, _key(results), cases, ratings))
    click.echo(str(page))


def _key(results: Path) -> str:
    """Name the results by their first run: stays the same in later runs and in a moved folder."""
    runs = runs_in_order(results / HOUSE_FOLDER)
    return runs[0].name if runs else results.resolve().name
