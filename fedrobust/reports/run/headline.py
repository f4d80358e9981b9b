"""A run in one sentence, made from its metrics."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from statistics import fmean

from fedrobust.reports.run.synthesis import synthesis_outcome
from fedrobust.reports.run.words import capitalised, counted, listed, plural
from fedrobust.reports.tables import in_uniform_weights, number
from fedrobust.results.finished_run import FinishedRun

__all__ = ["attacker_weight", "headline"]

#: What malicious hospitals did, in words; other attacks are named.
_DEEDS: Mapping[str, str] = {
    "label-flip": "flipped labels",
    "random-labels": "assigned random labels",
    "label-noise": "mislabelled images",
    "image-noise": "added noise to images",
    "backdoor": "planted a backdoor",
    "dba": "planted a distributed backdoor",
    "edge-case": "planted an edge-case backdoor",
    "sign-flip": "reversed their updates",
    "gaussian": "sent random updates",
    "boost": "scaled up their updates",
    "free-rider": "sent updates without training",
    "forge-loss": "reported a false loss",
    "forge-size": "reported too many images",
    "poisoned-fl": "pushed the model in one direction",
    "lazy": "repeated old updates",
    "mimic": "copied an honest hospital",
    "neurotoxin": "planted a durable backdoor",
}

#: A model that exceeds the commonest class's share by less is no better than guessing.
_CHANCE = 0.02

#: A combined drop of less, in percent, is nothing lost.
_NOTICEABLE = 0.05


def headline(run: FinishedRun) -> str:
    """Return the run in one sentence: who attacked and how, what the defence did, how good the model is."""
    if run.summary.failed:
        return f"All {counted(run.clients)} hospitals failed in every round, so the model is untrained."
    verdict = _verdict(run)
    return f"{capitalised(_threat(run))}; {verdict}{'and ' if verdict else ''}{_outcome(run)}."


def attacker_weight(run: FinishedRun) -> float | None:
    """Return the attackers' mean last weight, in uniform weights; one without an update has none."""
    if not run.judged or not run.malicious:
        return None
    return fmean(run.weights.get(one, 0.0) for one in run.malicious)


def _threat(run: FinishedRun) -> str:
    total, bad = run.clients, sorted(run.malicious)
    if total == 1 and not bad:
        return "one hospital trained alone"
    if not bad:
        some = f", {counted(len(run.atypical))} of them atypical ({_attacks(run, run.atypical)})"
        return f"{counted(total)} honest hospitals trained together{some if run.atypical else ''}"
    groups: dict[str, list[int]] = {}
    for one in bad:
        groups.setdefault(run.attacks.get(one, "an attack"), []).append(one)
    if run.malicious <= run.never_took_part:
        names = listed([f"'{attack}'" for attack in groups])
        who = "the malicious hospital" if len(bad) == 1 else f"all {counted(len(bad))} malicious hospitals"
        return f"the attack {names} never ran, as {who} failed in every round"
    if len(groups) == 1:
        who = "the only hospital" if total == 1 else f"{counted(len(bad))} of {counted(total)} hospitals"
        return f"{who} {_deed(next(iter(groups)))}{_absent(run, bad)}"
    parts = [
        f"{counted(len(members))} {_deed(attack)}{_absent(run, members)}"
        for attack, members in groups.items()
    ]
    return f"of {counted(total)} hospitals, {listed(parts)}"


def _absent(run: FinishedRun, members: Collection[int]) -> str:
    """Return how many of a group of attackers never sent an update."""
    silent = len(run.never_took_part.intersection(members))
    if not silent:
        return ""
    which = "" if silent == len(members) else f"{counted(silent)} of them "
    return f" (but {which}failed in every round)"


def _deed(chain: str) -> str:
    names = [part.partition("(")[0].strip() for part in _links(chain)]
    return listed([_DEEDS.get(name, f"attacked with {name}") for name in names])


def _links(chain: str) -> list[str]:
    """Return the parts of 'backdoor(place=1+1)+forge-loss': a plus within brackets joins nothing."""
    parts, depth = [""], 0
    for letter in chain:
        depth += (letter in "([") - (letter in ")]")
        if letter == "+" and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def _attacks(run: FinishedRun, numbers: Iterable[int]) -> str:
    return listed(sorted({run.attacks.get(one, "atypical") for one in numbers}))


def _verdict(run: FinishedRun) -> str:
    name = run.strategy
    if not run.judged:
        return f"{name} gives no verdict on single hospitals, "
    bad, flagged = run.malicious, run.flagged
    false = len(flagged - bad)
    if not bad:
        verdict = (
            f"falsely flagged {counted(false)} of them at the end"
            if false
            else "flagged none of them at the end"
        )
        return f"{name} {verdict}, "
    if bad <= run.never_took_part:
        return (
            f"{name} falsely flagged {counted(false)} honest {plural(false, 'hospital')}, " if false else ""
        )
    if not any(verdict.flagged for verdict in run.judged):
        weight = attacker_weight(run)
        kept = "" if weight is None else f", leaving each attacker {in_uniform_weights(weight)}"
        return f"{name} flagged no hospital{kept}, "
    verdict = f"{name} flagged {_found(len(bad & flagged), len(bad))}"
    return verdict + (
        f" and falsely flagged {counted(false)} honest {plural(false, 'hospital')}, " if false else ", "
    )


def _found(hit: int, total: int) -> str:
    if total == 1:
        return "it" if hit else "not the attacker"
    if hit == total:
        return "both attackers" if total == 2 else f"all {counted(total)} attackers"
    if hit == 0:
        return "neither attacker" if total == 2 else "none of the attackers"
    return f"{counted(hit)} of the {counted(total)} attackers"


def _outcome(run: FinishedRun) -> str:
    summary = run.summary
    clean = summary.clean.accuracy
    if summary.synthesis is not None:
        return synthesis_outcome(summary.synthesis)
    if clean is None:
        return "no accuracy is recorded"
    text = f"accuracy ended at {number(clean, 2)}"
    lost = (summary.lost_to_attack or {}).get("accuracy")
    if lost is not None and run.malicious:
        side = "below" if lost >= 0 else "above"
        text += f", {number(abs(100 * lost), 1)} points {side} the run without attackers"
    guess = run.commonest_class_share
    if guess is not None and clean <= guess + _CHANCE:
        # What such a model loses to noise means nothing.
        text += f", no better than always predicting the commonest class ({number(guess, 2)})"
    else:
        text += _drop(summary.drop.get("combined"))
    rate = summary.attack_success_rate
    if rate is not None:
        text += f", while the backdoor works on {number(100 * rate, 0, '%')} of the images with its trigger"
    return text


def _drop(combined: float | None) -> str:
    if combined is None:
        return " with an undefined drop on noisy images"
    if combined > _NOTICEABLE:
        return f" with a combined drop of {number(combined, 1, '%')} on noisy images"
    return f" with nothing lost on noisy images ({number(combined, 1, '%')})"
