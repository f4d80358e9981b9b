"""`fedrobust ensemble`: finished runs as one model, by feature fusion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from fedrobust.commands.flags import JsonOnly, user_path
from fedrobust.commands.messages import note
from fedrobust.errors import UserError
from fedrobust.printing import PlainConsole

__all__ = ["ensemble"]


def ensemble(
    runs: Annotated[
        list[Path], typer.Argument(parser=user_path, help="folders of finished runs", metavar="RUN...")
    ],
    evaluate: Annotated[
        str, typer.Option("--evaluate", help="evaluations, as --evaluate of fedrobust simulate")
    ] = "",
    evaluate_images: Annotated[
        int, typer.Option("--evaluate-images", min=1, help="test images for --evaluate at most")
    ] = 256,
    fit_on: Annotated[
        str,
        typer.Option(
            "--fit-on",
            metavar="{val,train}",
            help="what the classifier is fitted to: the server's validation images, or all hospitals'",
        ),
    ] = "val",
    out: Annotated[
        Path | None,
        typer.Option("--out", parser=user_path, metavar="FILE", help="write the results there as JSON"),
    ] = None,
    json: JsonOnly = False,
) -> None:
    """Join the models of finished runs: their features side by side, one classifier on all of them.

    The runs need the same data, split and seed; each was best trained against an attack of its own. A
    further run joins without any other being trained again.

    Example: fedrobust ensemble runs/plain-* runs/pgd-* --evaluate "noise, pgd(eps=4)"
    """
    if fit_on not in ("val", "train"):
        raise UserError(f"--fit-on '{fit_on}': must be val or train")
    results = _results(runs, evaluate, evaluate_images, fit_on)
    if out is not None:
        from fedrobust.results.files import write_json

        write_json(out, results)
    if json:
        from fedrobust.results.files import json_text

        print(json_text(results))
        return
    _print(results)


def _results(runs: Sequence[Path], evaluate: str, evaluate_images: int, fit_on: str) -> Mapping[str, Any]:
    """Return the ensemble's metrics, with the words of a run's summary."""
    from fedrobust.data.corruption import gaussian_noise
    from fedrobust.evaluation.classification import classification_metrics
    from fedrobust.evaluation.drop import combined_drop
    from fedrobust.plugins import EvaluationSpecs
    from fedrobust.results.finished_run import read_run
    from fedrobust.robustness.plan import named_evaluations
    from fedrobust.robustness.study import study
    from fedrobust.robustness.target import Target
    from fedrobust.scenario import Scenario
    from fedrobust.settings import load_settings
    from fedrobust.tasks.fusion import Member, fused

    evaluations = named_evaluations(EvaluationSpecs.parse(evaluate))
    members = [Member(read_run(folder).folder, Scenario.of(load_settings(file=folder))) for folder in runs]
    joined = fused(members, "val" if fit_on == "val" else "train")
    test, scenario = joined.data.part("test"), members[0].scenario
    noisy_images = gaussian_noise(test.images, scenario.noise_std, scenario.seed)
    clean, noisy = (
        cast(dict[str, Any], classification_metrics(joined.probabilities(images), test.labels))
        for images in (test.images, noisy_images)
    )
    results: dict[str, Any] = {
        "members": [str(folder) for folder in runs],
        "networks": len(joined.module.networks),
        "fitted_on": joined.fitted_on,
        "clean": clean,
        "noisy": noisy,
        "drop": combined_drop(clean, noisy),
    }
    if evaluations:
        target = Target(joined.module, joined.data.records.images.shape[1:], len(joined.data.records.classes))
        found = study(
            evaluations,
            target,
            test,
            evaluate_images,
            scenario.seed,
            lambda step: note(step.note) if step.note else None,
        )
        results["robustness"] = found.results
    return results


def _print(results: Mapping[str, Any]) -> None:
    from rich.table import Table

    table = Table(
        title=f"{len(results['members'])} runs, {results['networks']} networks, one classifier",
        title_justify="left",
    )
    for header in ("test images", "accuracy", "macro F1", "defence rate"):
        table.add_column(header, justify="left" if header == "test images" else "right")
    rows = [("clean", results["clean"]), ("noisy", results["noisy"])]
    rows += [(one["text"], one) for one in results.get("robustness", {}).get("evaluations", ())]
    for name, found in rows:
        table.add_row(name, *(_number(found.get(key)) for key in ("accuracy", "macro_f1", "defence_rate")))
    PlainConsole().print(table)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
