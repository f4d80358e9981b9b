"""Two claims on attacks, tested on the runs of the suite ``windows``.

That attackers who are held to the time of an honest epoch lose strength, and that a lower learning rate of
the server costs attackers more than honest hospitals. ``python -m benchmarks.claims --data-root DATA`` runs
what is missing and writes docs/claims.md; it can be stopped and started again.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from benchmarks.pages import prose, row, table_head
from fedrobust.results.finished_run import FinishedRun
from fedrobust.suites.cells import default_jobs, run_cells
from fedrobust.suites.metrics import mean_known
from fedrobust.suites.plan import plan
from fedrobust.suites.suite_files import load_suite

#: The labels of an attack within the time of an honest epoch, and of the same attack that takes longer.
PAIRS = (("an honest epoch", "five epochs"), ("a3fl, two passes", "a3fl"))

#: Threats without a trigger: what they do shows in the accuracy alone.
UNTARGETED = ("xfed",)

#: Accuracy is averaged over so many rounds, the last ones of the attack's.
LAST = 3


@dataclass(frozen=True)
class Strength:
    """What a threat had attained in its last round, or the federation without one in the same rounds.

    Attributes
    ----------
    accuracy : float
        Mean of the attack's last three rounds.
    success : float or None
        Attack success rate after its last round; None without a trigger.
    """

    accuracy: float
    success: float | None


#: Defence, learning rate of the server, threat and seed.
Key = tuple[str, str, str, int]
Found = Mapping[Key, Strength]


def strength_of(run: FinishedRun, last: int) -> Strength:
    """Return what was attained up to a round."""
    rounds = [line.clean.value("accuracy") for line in run.rounds if last - LAST < line.round <= last]
    return Strength(
        mean_known(rounds) or 0.0, mean_known(threat.success_at_its_end for threat in run.summary.threats)
    )


def paired(found: Found, one: str, other: str) -> Iterator[tuple[str, str, list[float], list[float]]]:
    """Yield defence, learning rate and both threats' success rates by seed, of the seeds that have both."""
    for defence, rate in dict.fromkeys((key[0], key[1]) for key in found):
        seeds = sorted({key[3] for key in found})
        both = [
            (a.success, b.success)
            for seed in seeds
            if (a := found.get((defence, rate, one, seed))) and (b := found.get((defence, rate, other, seed)))
        ]
        known = [(a, b) for a, b in both if a is not None and b is not None]
        if known:
            yield defence, rate, [a for a, _ in known], [b for _, b in known]


def time_limit(found: Found) -> list[str]:
    """Return the table of the first claim, and how often it holds."""
    lines, holds, count = table_head(["attack", "defence", "server-lr", "held to an epoch", "longer"]), 0, 0
    for short, long in PAIRS:
        for defence, rate, held, longer in paired(found, short, long):
            lines.append(row([long, defence, rate, f"{fmean(held):.2f}", f"{fmean(longer):.2f}"]))
            holds += sum(a < b for a, b in zip(held, longer, strict=True))
            count += len(held)
    verdict = f"The attack that is held to an epoch attains less in {holds} of {count} pairs of runs."
    return [*lines, "", *prose(verdict)]


def server_rate(found: Found) -> list[str]:
    """Return the table of the second claim, and how often it holds."""
    rates = sorted({key[1] for key in found}, key=float, reverse=True)
    head = ["defence", "threat", *(f"accuracy, lr {rate}" for rate in rates)]
    lines = table_head([*head, *(f"attack success, lr {rate}" for rate in rates)])
    holds = count = 0
    threats = dict.fromkeys(key[2] for key in found)
    for defence in dict.fromkeys(key[0] for key in found):
        for threat in threats:
            keys = [(defence, rate, threat) for rate in rates]
            groups = [[value for key, value in found.items() if key[:3] == wanted] for wanted in keys]
            accuracy = [_text(mean_known(v.accuracy for v in group), 3) for group in groups]
            success = [_text(mean_known(v.success for v in group), 2) for group in groups]
            lines.append(row([defence, threat, *accuracy, *success]))
        for kept, lost in _losses(found, defence, rates):
            holds += lost > kept
            count += 1
    verdict = (
        f"At {rates[-1]} in place of {rates[0]} the attack loses a larger share of what it attained than "
        f"the federation without attackers loses of its accuracy in {holds} of {count} pairs of runs."
    )
    return [*lines, "", *prose(verdict)]


def _losses(found: Found, defence: str, rates: list[str]) -> Iterator[tuple[float, float]]:
    """Yield what the honest federation and an attack lose, as shares; of an attack that attained something.

    An attack without a trigger attains the accuracy that it costs.
    """
    for threat in dict.fromkeys(key[2] for key in found):
        for seed in sorted({key[3] for key in found}):
            ends = [found.get((defence, rate, threat, seed)) for rate in (rates[0], rates[-1])]
            clean = [found.get((defence, rate, "none", seed)) for rate in (rates[0], rates[-1])]
            if threat == "none" or None in (*ends, *clean):
                continue
            honest = [one.accuracy for one in clean if one]
            done = [
                c.accuracy - e.accuracy if threat in UNTARGETED else e.success
                for c, e in zip(clean, ends, strict=True)
                if c and e
            ]
            if None not in done and done[0] and done[0] > 0:
                yield 1 - honest[1] / honest[0], 1 - (done[1] or 0.0) / done[0]


def page(found: Found) -> str:
    """Return the page in Markdown."""
    seeds = ", ".join(str(seed) for seed in sorted({key[3] for key in found}))
    about = (
        f"What `make reproduce-claims` printed: ten hospitals of brain_mri4_28, dirichlet(0.5), one network, "
        f"14 rounds of one epoch, two malicious hospitals that attack in rounds 4 to 8; means over the seeds "
        f"{seeds} after round 8 (`experiments/windows.toml`). What follows from it: [newest.md](newest.md). "
        f"Words: [glossary.md](glossary.md)."
    )
    lines = ["# Two claims about attackers", "", *prose(about), ""]
    lines += ["## Attackers that are held to an honest epoch", "", *time_limit(found), ""]
    return "\n".join([*lines, "## A lower learning rate of the server", "", *server_rate(found)]) + "\n"


def _text(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def main() -> None:
    """Run what is missing and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-root", required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/suites/cells"))
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")])
    parser.add_argument("--defences", type=lambda text: text.split(","), help="some of the suite's only")
    parser.add_argument("--jobs", type=int, default=default_jobs())
    parser.add_argument("--page", type=Path, default=Path("docs/claims.md"))
    given = parser.parse_args()
    cells = {
        (p.labels["defence"], str(p.settings.server_lr), p.labels["threat"], p.seed): p.settings
        for p in plan(load_suite("windows"), {"data_root": given.data_root})
        if (given.seeds is None or p.seed in given.seeds)
        and (given.defences is None or p.labels["defence"] in given.defences)
    }
    done = run_cells(cells, given.jobs, given.out)
    runs = {key: cell.run for key, cell in done.items() if not cell.error}
    last = max(t.last_round or 0 for run in runs.values() for t in run.summary.threats)
    found = {key: strength_of(run, last) for key, run in runs.items()}
    given.page.write_text(page(found), encoding="utf-8")


if __name__ == "__main__":
    main()
