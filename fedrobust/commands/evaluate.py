"""`fedrobust evaluate`: evaluations of a finished run's model, without training it again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from fedrobust.commands.flags import JsonOnly, Quiet, user_path
from fedrobust.errors import UserError
from fedrobust.printing import PlainConsole

__all__ = ["evaluate"]


def evaluate(
    run: Annotated[Path, typer.Argument(parser=user_path, help="folder of a finished run", metavar="RUN")],
    evaluations: Annotated[
        str, typer.Argument(help="evaluations, as --evaluate of fedrobust simulate", metavar="EVALUATIONS")
    ],
    images: Annotated[int, typer.Option("--evaluate-images", min=1, help="test images at most")] = 256,
    data_root: Annotated[
        str | None,
        typer.Option(
            "--data-root", envvar="FEDROBUST_DATA_ROOT", help="folder of the data files, if they were moved"
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", parser=user_path, metavar="FILE", help="write the results there as JSON"),
    ] = None,
    as_json: JsonOnly = False,
    quiet: Quiet = False,
) -> None:
    r"""Evaluate a finished run's model on changed images; the run itself stays as it is.

    Example: fedrobust evaluate runs/phantom-* "corruptions, pgd(eps=4)"
    """
    results = _results(run, evaluations, images, data_root, quiet=quiet or as_json)
    from fedrobust.results.files import json_text, write_json

    if out is not None:
        write_json(out, results)
    if as_json:
        print(json_text(results), end="")
        return
    from fedrobust.commands.run_summary import evaluations_table
    from fedrobust.results.records import Robustness

    PlainConsole().print(evaluations_table(Robustness.of(results)))


def _results(
    folder: Path, text: str, images: int, data_root: str | None, *, quiet: bool
) -> Mapping[str, Any]:
    """Return what the evaluations gave, as ``evaluation.json`` of a run holds it."""
    from fedrobust.data.sources import prepare
    from fedrobust.learners.factory import build_learner
    from fedrobust.plugins import EvaluationSpecs
    from fedrobust.results.finished_run import read_run
    from fedrobust.robustness.plan import named_evaluations
    from fedrobust.runtime.progress import Progress
    from fedrobust.scenario import Scenario
    from fedrobust.settings import load_settings
    from fedrobust.tasks.fusion import saved_state
    from fedrobust.tasks.model_study import study_of

    chosen = named_evaluations(EvaluationSpecs.parse(text))
    if not chosen:
        raise UserError("no evaluation is named; fedrobust list evaluations shows all")
    run = read_run(folder)
    scenario = Scenario.of(load_settings({"data_root": data_root}, run.folder))
    data = prepare(scenario.data)
    if data.digest != run.manifest.data.sha256:
        raise UserError(f"{folder}: the data have changed since this run; give its own with --data-root")
    if not data.records.pixels:
        raise UserError(f"{folder}: {data.records.source} holds features, which evaluations cannot change")
    learner = build_learner(scenario.learner, scenario.data)
    state = saved_state(run.folder, learner)
    with Progress(quiet=quiet) as progress:
        found = study_of(chosen, images, scenario, data, learner, state, progress.evaluating)
    return found.results
