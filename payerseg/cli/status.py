"""`payerseg status`: what is done, what is fresh, what is stale and why, without running anything."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from payerseg.cli.run import config_options, earlier_settings, weights_options
from payerseg.driver.status import CaseReport, decide_all
from payerseg.results.status import is_good
from payerseg.stagekit.protocol import ExitCode


@click.command()
@click.argument(
    "output", metavar="OUT", type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.option("--only-case", multiple=True, metavar="ID", help="Only this case; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON on stdout.")
@weights_options
@config_options
def status(**options: Any) -> int:
    """Say of every case in OUT how it ended, and of every stage whether its result is still true.

    Judged by the settings and weights of the last run in OUT, unless others are given here: so
    `payerseg status OUT --set spine_localization.threshold=0.4` says what such a run would do.

    Exit code 3 if a case failed or is not finished.
    """
    settings = earlier_settings(options["output"], options)
    reports = decide_all(settings.output, settings)
    if options["only_case"]:
        reports = tuple(report for report in reports if report.case_id in options["only_case"])
    if options["as_json"]:
        click.echo(json.dumps({"cases": [_as_dict(report) for report in reports]}, indent=1))
    else:
        for line in status_lines(reports):
            click.echo(line)
    all_good = all(is_good(report.status) and not report.refused for report in reports)
    return ExitCode.OK if all_good else ExitCode.SOME_FAILED


def status_lines(reports: tuple[CaseReport, ...]) -> Iterator[str]:
    """Yield the table: a line per case, then a line per stage that is stale or worth a remark."""
    width = max((len(report.case_id) for report in reports), default=0)
    for report in reports:
        message = f": {report.message}" if report.message else ""
        state = "" if report.fresh else " (stale)"
        yield f"{report.case_id:<{width}}  {report.status or 'never finished'}{state}{message}"
        for stage, verdict in report.verdicts.items():
            if verdict.reasons:
                yield f"{'':<{width}}    {stage} · {verdict.state}: {'; '.join(verdict.reasons)}"
    n_stale = sum(not report.fresh for report in reports)
    yield f"{len(reports)} case(s), {n_stale} with something to run"


def _as_dict(report: CaseReport) -> dict[str, Any]:
    return {
        "case_id": report.case_id,
        "status": report.status,
        "message": report.message,
        "image": None if report.image is None else str(report.image),
        "fresh": report.fresh,
        "stages": {
            stage: {"state": str(verdict.state), "reasons": list(verdict.reasons)}
            for stage, verdict in report.verdicts.items()
        },
    }
