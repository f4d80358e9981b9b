"""What a reader must know beside a run's metrics, in sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import fmean

from fedrobust.reports.run.synthesis import synthesis_notes
from fedrobust.reports.run.words import capitalised, counted, listed, plural
from fedrobust.reports.tables import in_uniform_weights, number
from fedrobust.results.finished_run import FinishedRun

__all__ = ["missing_facts", "notes"]

#: Below this many uniform weights a hospital is as good as left out.
_LOST = 0.5

#: A model whose accuracy fell by more than this from its best round has got worse.
_DECLINE = 0.05


def notes(run: FinishedRun) -> list[str]:
    """Return what a reader must know before the metrics, most important first."""
    summary, manifest = run.summary, run.manifest
    made = []
    if summary.synthetic:
        made.append(
            "The images are synthetic, drawn by a generator: no metric here says anything about patients."
        )
    if summary.failed and summary.failure:
        made.append(f"{capitalised(summary.failure)}.")
    if summary.diverged:
        made.append("Training diverged: the loss of the last model is not a finite number.")
    if summary.synthesis is not None:
        made += synthesis_notes(summary.synthesis)
    if manifest.oracle:
        made.append(
            "The defence was given which hospitals are malicious (an oracle): an upper bound for others, not "
            "a defence."
        )
    made += [f"The attack {name} had no effect in this run." for name in summary.no_effect_attacks]
    made += [f"{name} had no effect in this run." for name in summary.no_effect_steps]
    made += _replaced(run)
    made += _taking_part(run)
    if len(run.listed) < run.clients:
        made.append(
            f"Tables and plots show {len(run.listed)} of the {run.clients} hospitals: malicious, atypical "
            f"and flagged ones first, then those that took part most often."
        )
    made += _never_took_part(run)
    made += _missed(run)
    made += _falsely_flagged(run)
    made += _decline(run)
    if summary.faults:
        made.append(
            f"{counted(summary.faults).capitalize()} {plural(summary.faults, 'update')} of hospitals "
            f"{'was' if summary.faults == 1 else 'were'} discarded after a failure; see below."
        )
    planned = manifest.settings.get("rounds")
    if isinstance(planned, int) and summary.rounds < planned:
        made.append(
            f"Training stopped after round {summary.rounds} of {planned}: the validation loss no longer fell."
        )
    if summary.server_images:
        made.append(
            f"The defence used {summary.server_images} of the server's labelled images "
            f"({number(100 * summary.server_share, 0, '%')} of the validation part)."
        )
    made.append("This is one seed: comparing two runs needs several.")
    return made


def missing_facts(run: FinishedRun) -> str:
    """Return the share of each part's images that lack a fact; empty where the source has no facts."""
    parts = []
    for part, found in (run.evaluation.splits if run.evaluation else {}).items():
        shares = [f"{fact} {number(100 * lacks, 1, '%')}" for fact, lacks in found.missing.items()]
        if shares:
            parts.append(f"{part} part: {listed(shares)}")
    return f"Images without a known fact, {'; '.join(parts)}." if parts else ""


def _replaced(run: FinishedRun) -> list[str]:
    """Return a sentence for each plug-in of the user's that replaces a built-in one of the same name."""
    return [
        f"{plugin.file} is the user's own and replaces the built-in plug-in of that name."
        for plugin in run.manifest.plugins
        if plugin.replaces_built_in
    ]


def _taking_part(run: FinishedRun) -> list[str]:
    """Return who took part, where not all hospitals do in every round."""
    if not run.is_partial:
        return []
    asked = [len(line.asked or ()) for line in run.rounds]
    most = f"{min(asked)} to {max(asked)}" if min(asked) < max(asked) else f"{max(asked)}"
    never = run.clients - len(run.rounds_taken_part)
    made = f"Each round asked {most} of {run.clients} hospitals"
    why = Counter(one.reason for line in run.rounds for one in line.absent)
    if why:
        made += f"; of {sum(asked)} in all, {listed([f'{n} {reason}' for reason, n in sorted(why.items())])}"
    return [made + (f"; {never} never took part." if never else ".")]


def _never_took_part(run: FinishedRun) -> list[str]:
    silent = sorted(run.never_took_part)
    if not silent:
        return []
    who = f"{plural(len(silent), 'Hospital')} {_numbers(silent)}"
    return [f"{who} failed in every round and had no part in the model."]


def _missed(run: FinishedRun) -> list[str]:
    """Return a sentence on the attackers that are not flagged at the end, and the weight that they keep."""
    absent = {one for one in run.malicious if run.is_partial and not run.rounds_taken_part[one]}
    missed = sorted(run.malicious - run.flagged - run.never_took_part - absent)
    if not run.flagged or not missed:
        return []
    names = [f"{n} ({run.attacks.get(n, 'an attack')})" for n in missed]
    kept = [run.weights[n] for n in missed if n in run.weights]
    weight = f" and kept {in_uniform_weights(fmean(kept))}" if kept else ""
    each = " each, on average" if weight and len(missed) > 1 else ""
    verb = "was" if len(missed) == 1 else "were"
    return [f"{plural(len(missed), 'Hospital')} {listed(names)} {verb} not flagged at the end{weight}{each}."]


def _falsely_flagged(run: FinishedRun) -> list[str]:
    honest = {hospital.number for hospital in run.hospitals if hospital.role != "malicious"}
    flagged = sorted(run.flagged & honest)
    sizes = _sizes(run)
    # Rules that weight by images leave a small hospital little without excluding it.
    lost = sorted(
        number
        for number, weight in run.weights.items()
        if number in honest and weight < _LOST * min(1.0, sizes.get(number, 1.0))
    )
    made = []
    if flagged:
        made.append(_named(run, flagged, "falsely flagged at the end"))
    if rest := [one for one in lost if one not in flagged]:
        made.append(_named(run, rest, "left with less than half of a uniform weight, though not flagged"))
    before = sorted(
        {one for verdict in run.judged for one in verdict.flagged if one in honest} - set(flagged)
    )
    if before:
        made.append(_named(run, before, "falsely flagged in some rounds, but not at the end"))
    return made


def _sizes(run: FinishedRun) -> dict[int, float]:
    """Return how many images each hospital trains on, as a multiple of the mean.

    What honest hospitals report counts, else what was dealt to them.
    """
    images: dict[int, float] = {h.number: sum(h.counts) for h in run.hospitals if h.counts}
    images |= {n: count for n, count in run.reported_images.items() if n not in run.malicious}
    total = sum(images.values())
    return {n: held * len(images) / total for n, held in images.items()} if total else {}


def _named(run: FinishedRun, numbers: Sequence[int], what: str) -> str:
    names = [f"{n} (atypical: {run.attacks.get(n, '')})" if n in run.atypical else str(n) for n in numbers]
    verb = "was" if len(numbers) == 1 else "were"
    return f"Honest {plural(len(numbers), 'hospital')} {listed(names)} {verb} {what}."


def _numbers(numbers: Sequence[int]) -> str:
    return listed([str(one) for one in numbers])


def _decline(run: FinishedRun) -> list[str]:
    """Return a sentence where the last model is clearly worse than an earlier one."""
    found = [(line.clean.accuracy, line.round) for line in run.rounds if line.clean.accuracy is not None]
    if not found:
        return []
    best, when = max(found, key=lambda pair: pair[0])
    last = found[-1][0]
    if best - last < _DECLINE:
        return []
    return [f"Accuracy was {number(best, 2)} in round {when} and fell to {number(last, 2)} at the end."]
