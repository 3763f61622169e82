"""`payerseg report`: the page of a whole results folder, and the ratings that people made on it."""

from __future__ import annotations

from pathlib import Path

import click

from payerseg.atomic import write_text
from payerseg.driver.run_folder import runs_in_order
from payerseg.errors import UsageError
from payerseg.results.case_folder import DRIVER_FOLDER
from payerseg.results.fingerprint import results_memo
from payerseg.stagekit.case_state import case_folders, current_result
from payerseg.stagekit.protocol import ExitCode

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
def report(*, results: Path, ratings_files: tuple[Path, ...], output: Path | None) -> int:
    """Write one page over all cases of OUT, an output folder of `payerseg run`.

    Open it by double-click: sort and filter the cases, see what stands out, rate each one with the keys
    p (pass), f (fail) and u (unsure), and save the ratings as a file.

    A case whose results no longer belong to what lies there is shown as stale, without numbers; exit
    code 3 where there is one.
    """
    from payerseg.report.cohort import (
        RATINGS_FILE,
        STALE,
        cohort_page,
        merge_ratings,
        ratings_json,
        read_case,
        read_ratings,
    )

    memo = results_memo(results)
    cases = [read_case(current_result(folder, memo)) for folder in case_folders(results)]
    if not cases:
        msg = f"{results} holds no case; expected the output folder of `payerseg run`"
        raise UsageError(msg)
    stale = [case for case in cases if case.kind == STALE]
    for case in stale:
        click.echo(f"{case.case_id}: {case.message}", err=True)
    kept = results / RATINGS_FILE
    sources = [read_ratings(path) for path in (*([kept] if kept.is_file() else []), *ratings_files)]
    ratings = merge_ratings(sources)
    page = output or results / PAGE_FILE
    name = results.resolve().name
    try:
        if ratings_files:
            write_text(kept, ratings_json(ratings))
            click.echo(f"{kept}: {len(ratings)} rating(s)")
        write_text(page, cohort_page(name, _key(results), cases, ratings))
    except OSError as error:
        msg = (
            f"cannot write {error.filename or page} ({error.strerror}); -o puts the page elsewhere"
        )
        raise UsageError(msg) from error
    strangers = sorted(set(ratings) - {case.case_id for case in cases})
    if strangers:
        click.echo(f"rated, but not in {results}: {', '.join(strangers)}", err=True)
    click.echo(str(page))
    return ExitCode.SOME_FAILED if stale else ExitCode.OK


def _key(results: Path) -> str:
    """Name the results by their first run: stays the same in later runs and in a moved folder."""
    runs = runs_in_order(results / DRIVER_FOLDER)
    return runs[0].name if runs else results.resolve().name
