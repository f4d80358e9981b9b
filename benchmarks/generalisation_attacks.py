"""The tables of `benchmarks/generalisation.py` on backdoors and on attackers who know the rule."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.generalisation_metrics import Compared, Methods, mean_text, short, text, where
from benchmarks.generalisation_plan import ADAPTIVE_METHODS, BACKDOORS, METHODS, NONE, OURS, Federation
from benchmarks.pages import escaped, prose, row, table_head

#: A trigger that succeeds no more often than this is taken to have failed.
RARE = 0.15


def backdoors(compared: Compared) -> list[str]:
    """Return how often triggers succeed in the grid, for each method."""
    lines = prose(
        "Attack success rate: stamped test images of other classes that are classified as the target. An "
        "untrained model has one as well: FedAvg is the measure."
    )
    lines += ["", *table_head(("threat", "method", "federations", "attack success rate", "accuracy"))]
    for threat in BACKDOORS:
        here = where(compared, lambda one, t=threat: one.threat == t)  # type: ignore[misc]
        for name in METHODS if here else ():
            runs = [methods[name] for methods in here.values()]
            rate, accuracy = text(run.success for run in runs), text(run.accuracy for run in runs)
            lines.append(row([threat, escaped(name), len(runs), rate, accuracy]))
    return lines


def _without_attack(compared: Compared, one: Federation) -> Methods:
    return compared.get(one._replace(threat=NONE, malicious=0), {})


def _places(compared: Compared) -> dict[tuple[str, str, str], list[Federation]]:
    """Return the attacked federations by data, partition and threat."""
    found: dict[tuple[str, str, str], list[Federation]] = {}
    for one in compared:
        if one.threat != NONE:
            found.setdefault((one.data, one.partition, one.threat), []).append(one)
    return found


def tuned_backdoors(compared: Compared) -> list[str]:
    """Return how often triggers succeed on the tuned data, and what accuracy that leaves."""
    lines = prose(
        "Two of ten malicious, a trained model. The last column is FedAvg's accuracy without an attack minus "
        "ours under attack, by seed."
    )
    columns = ["data", "partition", "threat", "seeds", "success, ours", f"of them at most {RARE}"]
    columns += ["success, FedAvg", "accuracy, ours", "below FedAvg without attack, points"]
    lines += ["", *table_head(columns)]
    for (data, partition, threat), here in _places(compared).items():
        lost = [
            _without_attack(compared, one)["fedavg"].accuracy - compared[one][OURS].accuracy
            for one in here
            if OURS in compared[one] and "fedavg" in _without_attack(compared, one)
        ]
        ours = [compared[one][OURS] for one in here if OURS in compared[one]]
        plain = [compared[one]["fedavg"].success for one in here if "fedavg" in compared[one]]
        rare = sum(run.success is not None and run.success <= RARE for run in ours)
        cells = [text(run.success for run in ours), rare, text(plain), text(run.accuracy for run in ours)]
        lines.append(row([short(data), partition, threat, len(ours), *cells, text(lost, 1, 100)]))
    return lines


def adaptive(compared: Compared) -> list[str]:
    """Return what attackers who know the rule do to it, and to centered clipping."""
    lines = prose(
        "Three of ten malicious; the attackers are those of tests/adaptive/clients. Damage is the accuracy "
        "of the same method without an attack minus that under attack, in percentage points, mean over "
        "seeds; for backdoors the success rate counts."
    )
    columns = ["data", "partition", "attack", "seeds"]
    for what in ("damage", "success"):
        columns += [f"{what}, {'ours' if name == OURS else name}" for name in ADAPTIVE_METHODS]
    lines += ["", *table_head([*columns, "AUROC, ours", "recall, ours", "attackers' weight, ours"])]
    for (data, partition, threat), here in _places(compared).items():
        damage = [text(_damage(compared, here, name), 1, 100) for name in ADAPTIVE_METHODS]
        success = [
            text(compared[one][name].success for one in here if name in compared[one])
            for name in ADAPTIVE_METHODS
        ]
        ours = [compared[one][OURS] for one in here if OURS in compared[one]]
        seen = [mean_text(run.auroc for run in ours), mean_text(run.recall for run in ours)]
        cells = [*damage, *success, *seen, mean_text(run.attackers for run in ours)]
        lines.append(row([short(data), partition, threat, len(here), *cells]))
    return [*lines, "", *_damage_by_attack(compared)]


def _damage_by_attack(compared: Compared) -> list[str]:
    """Return by how much an attack's damage to ours exceeds that to the other method, all federations."""
    other = next(name for name in ADAPTIVE_METHODS if name != OURS)
    lines = prose(
        f"The same by attack, paired by federation: damage to ours minus that to {other}, in percentage "
        "points, and what accuracy and, for backdoors, success rate the attack leaves of each."
    )
    columns = ["attack", "federations", "damage, difference", "accuracy, ours", f"accuracy, {other}"]
    lines += ["", *table_head([*columns, "success, ours", f"success, {other}"])]
    attacked = where(compared, lambda one: one.threat != NONE)
    both = [
        one
        for one, runs in attacked.items()
        if {OURS, other} <= runs.keys() & _without_attack(compared, one).keys()
    ]
    for threat in dict.fromkeys(one.threat for one in both):
        here = [one for one in both if one.threat == threat]
        pairs = zip(_damage(compared, here, OURS), _damage(compared, here, other), strict=True)
        difference = text((mine - its for mine, its in pairs), 1, 100)
        runs = [[compared[one][name] for one in here] for name in (OURS, other)]
        cells = [mean_text((run.accuracy for run in of), 3) for of in runs]
        cells += [text(run.success for run in of) for of in runs]
        lines.append(row([threat, len(here), difference, *cells]))
    return lines


def _damage(compared: Compared, here: Iterable[Federation], name: str) -> list[float]:
    return [
        clean[name].accuracy - compared[one][name].accuracy
        for one in here
        if name in (clean := _without_attack(compared, one)) and name in compared[one]
    ]
