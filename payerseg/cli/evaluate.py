"""`payerseg evaluate`: score results of any method against ground truth."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from payerseg.cli.export import stale_option
from payerseg.errors import PayersegError, UsageError
from payerseg.stagekit.protocol import ExitCode

if TYPE_CHECKING:
    from payerseg.evaluation.case_scores import CaseScores, ScoringRules
    from payerseg.evaluation.evaluation_report import Evaluation
    from payerseg.evaluation.predictions import Prediction, PredictionFiles
    from payerseg.evaluation.truth import TruthRules

SCHEMES = (
    "verse", "totalsegmentator", "totalsegmentator_v1", "vertebrae_pp", "moose", "vista3d",
    "totalspineseg",
)  # fmt: skip
LAYOUTS = ("auto", "catalog", "simple", "verse", "loose")
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@dataclass(frozen=True, slots=True)
class _Task:
    """What is scored against what.

    Attributes:
        truth: folder.
        truth_rules: how to read it.
        scheme: label numbers of the results.
        rules: what is scored.
        groups: case key → group.
        only_cases: case ids; none = all.
        all_truth: count cases that the results do not hold as missed.
        stale_ok: score also results that failed since or are stale.
    """

    truth: Path
    truth_rules: TruthRules
    scheme: str
    rules: ScoringRules
    groups: dict[str, str]
    only_cases: tuple[str, ...]
    all_truth: bool
    stale_ok: bool


@click.command()
@click.argument("results", type=FOLDER)
@click.option("--truth", required=True, type=FOLDER, help="Folder with the ground truth.")
@click.option(
    "-o", "--output", type=click.Path(file_okay=False, path_type=Path),
    help="Write tables, summaries and a page here. [default: only print]",
)  # fmt: skip
@click.option(
    "--compare", type=FOLDER, help="Second results to compare: difference second - first."
)
@click.option(
    "--scheme", default="verse", show_default=True, type=click.Choice(SCHEMES),
    help="Meaning of the label numbers in RESULTS (not for payerseg's own folders).",
)  # fmt: skip
@click.option("--compare-scheme", type=click.Choice(SCHEMES),
              help="The same for --compare. [default: as --scheme]")  # fmt: skip
@click.option(
    "--truth-scheme", default="verse", show_default=True, type=click.Choice(SCHEMES),
    help="Meaning of the label numbers in the truth.",
)  # fmt: skip
@click.option(
    "--layout", default="auto", show_default=True, type=click.Choice(LAYOUTS),
    help="Layout of the truth; loose = label maps and position files in any folders.",
)  # fmt: skip
@click.option(
    "--verse-frame", default="auto", show_default=True,
    type=click.Choice(["auto", "subject", "iso_pir", "iso_asl"]),
    help="Frame of VerSe centroid lists that do not say it themselves.",
)  # fmt: skip
@click.option(
    "--csv-space", default="lps_mm", show_default=True,
    type=click.Choice(["lps_mm", "ras_mm", "voxel"]), help="Space of label,X,Y,Z tables.",
)  # fmt: skip
@click.option("--split", default="", help="Only truth cases of this split, e.g. val.")
@click.option("--groups", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="CSV with columns case,group: figures are given per group too.")  # fmt: skip
@click.option("--only-case", multiple=True, metavar="ID", help="Only this case; repeatable.")
@click.option("--all-truth", is_flag=True,
              help="Count truth cases that RESULTS does not hold as missed.")  # fmt: skip
@stale_option
@click.option("--resample", is_flag=True,
              help="Bring label maps from other grids onto the truth's.")  # fmt: skip
@click.option("--no-masks", is_flag=True, help="Score landmarks only.")
@click.option("--no-surfaces", is_flag=True, help="Leave surface distances out; much faster.")
@click.option("--draws", default=2000, show_default=True, type=click.IntRange(1),
              help="Bootstrap samples of the confidence intervals.")  # fmt: skip
@click.option("--seed", default=0, show_default=True, help="Of the bootstrap.")
def evaluate(results: Path, output: Path | None, compare: Path | None, **options: Any) -> int:
    """Score RESULTS against ground truth and print the figures.

    RESULTS is an output folder of `payerseg run`, a folder of flat exports, or a folder of label
    maps of any method; where there are only label maps, vertebra centres are derived from them.

    A case whose result cannot be used counts as missed; one whose truth cannot be used is not scored.
    Both are named, the other cases are scored, and the exit code is 3.
    """
    from payerseg.evaluation.evaluation_report import summarize, write_evaluation
    from payerseg.evaluation.tables import compare as compare_scores

    task = _task(options)
    draws, seed = options["draws"], options["seed"]
    cases, left_out, whole = _score(results, task)
    found = summarize(results.name, cases, left_out, draws, seed)
    if compare is not None:
        scheme = options["compare_scheme"] or task.scheme
        second, _, second_whole = _score(compare, replace(task, scheme=scheme))
        whole = whole and second_whole
        same = results.name == compare.name
        names = (str(results), str(compare)) if same else (results.name, compare.name)
        both = (names[0], cases), (names[1], second)
        found = replace(found, comparison=compare_scores(*both, draws=draws, seed=seed))
    _print(found)
    if output is not None:
        page = write_evaluation(found, output)[-1]
        click.echo(f"\nwritten to {output}; open {page}")
    return ExitCode.OK if whole else ExitCode.SOME_FAILED


def _task(options: dict[str, Any]) -> _Task:
    from payerseg.datasets.discover import ReadingRules
    from payerseg.datasets.label_schemes import scheme_named
    from payerseg.evaluation.case_scores import ScoringRules
    from payerseg.evaluation.truth import TruthRules, read_groups

    reading = ReadingRules(options["csv_space"], options["verse_frame"])
    truth_scheme = scheme_named(options["truth_scheme"])
    return _Task(
        truth=options["truth"],
        truth_rules=TruthRules(options["layout"], options["split"], reading, truth_scheme),
        scheme=options["scheme"],
        rules=ScoringRules(
            not options["no_masks"], not options["no_surfaces"], options["resample"]
        ),
        groups=read_groups(options["groups"]) if options["groups"] else {},
        only_cases=options["only_case"],
        all_truth=options["all_truth"],
        stale_ok=options["stale"] == "ok",
    )


def _score(results: Path, task: _Task) -> tuple[list[CaseScores], dict[str, str], bool]:
    """Score every case that both sides hold.

    Returns:
        The scores; case → why it was not scored; whether nothing was in the way of any case.
    """
    from payerseg.evaluation.case_scores import score_absent, score_case
    from payerseg.evaluation.predictions import find_predictions
    from payerseg.evaluation.truth import find_truth, read_truth

    known = find_truth(task.truth, task.truth_rules)
    predictions = find_predictions(results)
    wanted = [key for key in known if not task.only_cases or known[key].case_id in task.only_cases]
    # groups are listed as their table lists them
    order = ["", *dict.fromkeys(task.groups.values())]
    wanted.sort(key=lambda key: order.index(task.groups.get(key, "")))
    scores: list[CaseScores] = []
    absent, faults = dict[str, str](), dict[str, str]()
    for key in wanted:
        case_id, group = known[key].case_id, task.groups.get(key, "")
        if key not in predictions and not task.all_truth:
            absent[case_id] = "not in the results"
            continue
        click.echo(f"scoring {case_id}", err=True)
        try:
            truth = read_truth(known[key], task.truth_rules, with_labels=task.rules.masks)
            if key in predictions:
                prediction = _read_prediction(predictions[key], task)
                scores.append(score_case(prediction, truth, task.rules, group))
            else:
                scores.append(score_absent(truth, task.rules, group))
        except PayersegError as error:
            faults[case_id] = str(error)
            click.echo(f"not scored: {case_id}: {error}", err=True)
    absent |= {p.case_id: "not in the truth" for k, p in predictions.items() if k not in known}
    if not scores:
        reasons = "; ".join(faults.values()) or "are the names the same?"
        msg = f"no case of {results} can be scored with the truth {task.truth}: {reasons}"
        raise UsageError(msg)
    for case in scores:
        for text in [f"counted as missed: {case.refused}"] * bool(case.refused) + [*case.notes]:
            click.echo(f"{case.case_id}: {text}", err=True)
    broken = [case for case in scores if case.refused and not case.status.startswith("failed")]
    return scores, {**faults, **absent}, not faults and not broken


def _read_prediction(where: PredictionFiles, task: _Task) -> Prediction:
    """Read a result; of one that cannot be read every vertebra is missed."""
    from payerseg.datasets.label_schemes import scheme_named
    from payerseg.domain.landmarks import Landmarks
    from payerseg.evaluation.predictions import Prediction, ResultRules, read_prediction

    rules = ResultRules(scheme_named(task.scheme), task.rules.masks, task.stale_ok)
    try:
        return read_prediction(where, rules)
    except PayersegError as error:
        return Prediction(where.case_id, Landmarks(), status="unreadable", refused=str(error))


def _print(found: Evaluation) -> None:
    from payerseg.evaluation.evaluation_report import (
        comparison_rows,
        figure_rows,
        what_is_wrong,
    )

    click.echo(_columns(figure_rows(found.figures)))
    if found.comparison is not None:
        click.echo("\n" + _columns(comparison_rows(found.comparison)))
    wrong = {c.case_id: what_is_wrong(c) for c in found.cases if not c.landmarks.all_right}
    for case_id, what in wrong.items():
        click.echo(f"wrong: {case_id}: {what}")
    if found.left_out:
        names = ", ".join(list(found.left_out)[:8])
        more = " …" if len(found.left_out) > 8 else ""
        click.echo(f"not scored: {len(found.left_out)} cases ({names}{more})", err=True)


def _columns(rows: list[list[str]]) -> str:
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
