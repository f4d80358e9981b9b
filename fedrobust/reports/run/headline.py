"""A run in one sentence, made from its numbers, and what a reader must know beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fedrobust.reports.tables import fair, number
from fedrobust.results.records import Record
from fedrobust.results.reported_sizes import told_images

__all__ = ["headline", "missing", "notes"]

_WORDS = (
    "no",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
)

#: What malicious hospitals did, in words; others are named.
_DEEDS: Mapping[str, str] = {
    "label-flip": "flipped labels",
    "random-labels": "gave images random labels",
    "label-noise": "got labels wrong",
    "image-noise": "spoilt images with noise",
    "backdoor": "planted a backdoor",
    "dba": "planted a backdoor in parts",
    "edge-case": "gave rare images the attacker's class",
    "sign-flip": "sent reversed updates",
    "gaussian": "sent random updates",
    "boost": "sent enlarged updates",
    "free-rider": "contributed nothing",
    "forge-loss": "lied about the loss",
    "forge-size": "claimed too many images",
    "mimic": "copied one honest hospital",
    "neurotoxin": "hid a backdoor where others hardly write",
}

#: Below this share of an equal weight a hospital is as good as left out.
_LOST = 0.5


def headline(record: Record) -> str:
    """Return the run in one sentence: what was attacked, by whom and how, and what the defence kept."""
    return f"{_capital(_threat(record))}; {_verdict(record)}{_outcome(record)}."


def _threat(record: Record) -> str:
    total = record.clients
    bad = sorted(record.malicious)
    if total == 1 and not bad:
        return "one hospital trained alone"
    if not bad:
        odd = (
            f", {counted(len(record.atypical))} of them atypical ({_deeds(record, record.atypical)})"
            if record.atypical
            else ""
        )
        return f"{counted(total)} honest hospitals trained together{odd}"
    groups: dict[str, list[int]] = {}
    for one in bad:
        groups.setdefault(record.attacks.get(one, "an attack"), []).append(one)
    if len(groups) == 1:
        who = "the only hospital" if total == 1 else f"{counted(len(bad))} of {counted(total)} hospitals"
        return f"{who} {_deed(next(iter(groups)))}"
    parts = [f"{counted(len(members))} {_deed(attack)}" for attack, members in groups.items()]
    return f"of {counted(total)} hospitals, {listed(parts)}"


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


def _deeds(record: Record, numbers: Iterable[int]) -> str:
    return listed(sorted({record.attacks.get(one, "atypical") for one in numbers}))


def _verdict(record: Record) -> str:
    name = record.strategy
    if not record.judged:
        return f"{name} gives no verdict on single hospitals, "
    ever = any(verdict.get("flagged") for verdict in record.judged)
    bad, flagged = record.malicious, record.flagged
    wronged = len(flagged - bad)
    if not bad:
        said = f"flagged {counted(wronged)} of them at the end" if wronged else "accused nobody at the end"
        return f"{name} {said}, "
    if not ever:
        kept = [record.weights[one] for one in bad if one in record.weights]
        weight = f", leaving the attackers {fair(sum(kept) / len(kept))}" if kept else ""
        return f"{name} flagged nobody{weight}, "
    said = f"{name} found {_found(len(bad & flagged), len(bad))}"
    return said + (
        f" but accused {counted(wronged)} honest {_plural(wronged, 'hospital')}, " if wronged else ", "
    )


def _found(hit: int, total: int) -> str:
    if total == 1:
        return "it" if hit else "nothing"
    if hit == total:
        return "both" if total == 2 else f"all {counted(total)}"
    if hit == 0:
        return "neither" if total == 2 else "none of them"
    return f"{counted(hit)} of the {counted(total)}"


def _outcome(record: Record) -> str:
    clean = record.summary.get("clean", {}).get("accuracy")
    if clean is None:
        return "and no accuracy is recorded"
    text = f"and accuracy ended at {number(clean, 2)}"
    guess = _commonest(record)
    if guess is not None and clean <= guess + 0.02:
        text += f", no better than always naming the commonest class ({number(guess, 2)}),"
    drop = record.summary.get("drop", {}).get("combined")
    if drop is None:
        text += " with an undefined drop on noisy images"
    elif drop > 0.05:
        text += f" with a combined drop of {number(drop, 1, '%')} on noisy images"
    else:
        text += f" with nothing lost on noisy images ({number(drop, 1, '%')})"
    rate = record.summary.get("attack_success_rate")
    if rate is not None:
        text += f", while the backdoor works on {number(100 * rate, 0, '%')} of the marked images"
    return text


def _commonest(record: Record) -> float | None:
    """Return the share of the commonest class among the test images, where it is recorded."""
    counts: Sequence[int] = record.evaluation.get("splits", {}).get("test", {}).get("counts") or ()
    return max(counts) / sum(counts) if counts and sum(counts) else None


def notes(record: Record) -> list[str]:
    """Return what a reader must know before the numbers, most important first."""
    summary, manifest = record.summary, record.manifest
    made = []
    if summary.get("synthetic"):
        made.append(
            "The images are synthetic, drawn by a generator: no figure here says anything about patients."
        )
    if manifest.get("oracle"):
        made.append("The defence was told who is malicious (an oracle): a bound for others, not a defence.")
    made += [
        f"The attack {name} changed nothing in this run." for name in summary.get("no_effect_attacks") or ()
    ]
    made += [f"{name} changed nothing in this run." for name in summary.get("no_effect_steps") or ()]
    made += _missed(record)
    made += _wronged(record)
    made += _decline(record)
    if faults := summary.get("faults"):
        made.append(
            f"Faults cost hospitals {counted(faults)} {_plural(faults, 'round')}; they are listed below."
        )
    planned = manifest.get("settings", {}).get("rounds")
    if planned and summary.get("rounds", planned) < planned:
        made.append(
            f"Training stopped after round {summary['rounds']} of {planned}: the validation loss no longer fell."
        )
    if images := summary.get("server_images"):
        made.append(
            f"The defence looked at {images} labelled images of the server's "
            f"({number(100 * summary.get('server_share', 0), 0, '%')} of the validation part)."
        )
    made.append("One seed is one draw: a difference between two runs needs several.")
    return made


def _missed(record: Record) -> list[str]:
    """Return a sentence on the attackers that are not flagged at the end, and the weight that they keep."""
    missed = sorted(record.malicious - record.flagged)
    if not record.flagged or not missed:
        return []
    names = [f"{n} ({record.attacks.get(n, 'an attack')})" for n in missed]
    kept = [record.weights[n] for n in missed if n in record.weights]
    weight = f" and kept {fair(sum(kept) / len(kept))}" if kept else ""
    each = " each, on average" if weight and len(missed) > 1 else ""
    verb = "was" if len(missed) == 1 else "were"
    hospitals = _plural(len(missed), "hospital").capitalize()
    return [f"{hospitals} {listed(names)} {verb} not flagged at the end{weight}{each}."]


def _wronged(record: Record) -> list[str]:
    honest = {h.number for h in record.hospitals if h.role != "malicious"}
    wronged = sorted(record.flagged & honest)
    sizes = _sizes(record)
    # Rules that weigh by images leave a small hospital little, and wrong nobody.
    lost = sorted(
        n
        for n, weight in record.weights.items()
        if n in honest and weight < _LOST * min(1.0, sizes.get(n, 1.0))
    )
    made = []
    if wronged:
        made.append(_named(record, wronged, "flagged at the end"))
    if rest := [one for one in lost if one not in wronged]:
        made.append(_named(record, rest, "left with less than half of a fair share, though not flagged"))
    before = sorted({n for v in record.judged for n in v.get("flagged", ()) if n in honest} - set(wronged))
    if before:
        made.append(_named(record, before, "flagged in some rounds, but not at the end"))
    return made


def _sizes(record: Record) -> dict[int, float]:
    """Return how many images each hospital trains on, as a multiple of the mean: what the honest say, else what was dealt."""
    images: dict[int, float] = {h.number: sum(h.counts) for h in record.hospitals if h.counts}
    images |= {n: told for n, told in told_images(record.reports).items() if n not in record.malicious}
    total = sum(images.values())
    return {n: held * len(images) / total for n, held in images.items()} if total else {}


def _named(record: Record, numbers: Sequence[int], what: str) -> str:
    names = [
        f"{n} (atypical: {record.attacks.get(n, '')})" if n in record.atypical else str(n) for n in numbers
    ]
    verb = "was" if len(numbers) == 1 else "were"
    return f"Honest {_plural(len(numbers), 'hospital')} {listed(names)} {verb} {what}."


def _decline(record: Record) -> list[str]:
    """Return a sentence where the last model is clearly worse than an earlier one."""
    found: list[tuple[float, Any]] = [
        (entry["clean"]["accuracy"], entry["round"])
        for entry in record.rounds
        if entry.get("clean", {}).get("accuracy") is not None
    ]
    if not found:
        return []
    best, when = max(found, key=lambda pair: pair[0])
    if best - found[-1][0] < 0.05:
        return []
    return [
        f"Accuracy had been {number(best, 2)} in round {when} and fell to {number(found[-1][0], 2)} at the end."
    ]


def missing(record: Record) -> str:
    """Return for which shares of each part's images the source lacks a fact, in words; nothing where it has no facts."""
    parts = []
    for part, told in (record.evaluation.get("splits") or {}).items():
        shares = [
            f"{fact} {number(100 * lacks, 1, '%')}" for fact, lacks in (told.get("missing") or {}).items()
        ]
        if shares:
            parts.append(f"{part} part: {listed(shares)}")
    return f"Images without a known fact, {'; '.join(parts)}." if parts else ""


def counted(count: int) -> str:
    """Return a number as a word where it is short."""
    return _WORDS[count] if 0 <= count < len(_WORDS) else str(count)


def listed(parts: Sequence[str]) -> str:
    """Return 'a, b and c'."""
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1]))) if parts else ""


def _plural(count: int, word: str) -> str:
    return word if count == 1 else word + "s"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
