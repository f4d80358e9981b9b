"""Every attack against every defence: accuracy, backdoors, whose word counted, and whether known orderings appear.

``make reproduce-matrix`` runs it and writes docs/matrix.md, with docs/matrix-notes.md in it word for word: what
the numbers do not explain themselves is written there, and stays when the page is regenerated. A finished run is
not made again; delete the folder given by --out to start again.

    python benchmarks/matrix.py --data-root DATA --attacks none label-flip --defences fedavg --rounds 2 --page try.md
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.orderings import GAUSSIAN, NONE, ORDERINGS, Figures, Pair, unexplained
from fedrobust import Settings
from fedrobust.data.sources import prepare
from fedrobust.scenario import Scenario
from fedrobust.suites.cells import Cell, default_jobs, run_cells

CLIENTS, MALICIOUS = 10, 2
ATTACKS = (
    *("label-flip", "random-labels", "image-noise", "backdoor", "backdoor + boost", "sign-flip(scale=4)"),
    *(GAUSSIAN, "boost", "alie(z=1.5)", "ipm", "min-max", "fang"),
)
DEFENCES = (
    *("fedavg", "median", "trimmed-mean", "multi-krum", "nnm | trimmed-mean", "centered-clipping"),
    *("norm-clipping", "dnc", "flame", "feddetect", "isolation-forest"),
)
COMMON = {"clients": CLIENTS, "networks": 1, "local_epochs": 1}
#: Of the seeds 0 to 5 the one whose attackers hold the share of brain_mri4_28's images that is nearest to a fair fifth:
#: 6.0, 15.2, 28.5, 25.7, 16.8 and 13.8 %. Attackers with hardly any images harm nobody who weighs by images.
SEED = 4
#: These judge each parameter by itself and give every hospital the same weight: their shares say nothing.
BY_COORDINATE = ("median", "trimmed-mean")


def plan(
    common: Mapping[str, Any], seeds: Iterable[int], attacks: Sequence[str], defences: Sequence[str]
) -> Iterator[tuple[tuple[str, str, int], Settings]]:
    """Yield attack, defence, seed and settings of each run; those of one seed share their data.

    Parameters
    ----------
    common : mapping
        Settings of all runs: data, data_root, partition, rounds.
    seeds : iterable of int
    attacks, defences : sequence of str
    """
    for seed in seeds:
        for attack in attacks:
            threat = {} if attack == NONE else {"attack": attack, "malicious": MALICIOUS}
            for defence in defences:
                settings = Settings(**COMMON | common | threat, strategy=defence, seed=seed)
                yield (attack, defence, seed), settings


def measure(cell: Cell) -> Figures:
    """Return the figures of one finished run."""
    run = cell.run
    last = run.rounds[-3:]
    rates = [rate for line in last if (rate := line.attack_success_rate) is not None]
    final = run.verdicts[-1].uniform_weights(1)
    uniform = 1 / cell.settings.clients
    return Figures(
        accuracy=statistics.mean(line.clean.accuracy or 0.0 for line in last),
        success=statistics.mean(rates) if len(rates) == len(last) else None,
        attackers=sum(final.get(number, 0.0) for number in run.malicious),
        neglected=sum(
            weight < uniform / 2 for number, weight in final.items() if number not in run.malicious
        ),
        idle=run.summary.no_effect_attacks,
        faults=run.summary.faults,
    )


def over_seeds(found: Sequence[Figures]) -> Figures:
    """Return the mean of several seeds' figures."""
    rates = [each.success for each in found if each.success is not None]
    return Figures(
        accuracy=statistics.mean(each.accuracy for each in found),
        success=statistics.mean(rates) if rates else None,
        attackers=statistics.mean(each.attackers for each in found),
        neglected=statistics.mean(each.neglected for each in found),
        idle=tuple(sorted({name for each in found for name in each.idle})),
        faults=sum(each.faults for each in found),
    )


def page(found: Mapping[Pair, Figures], failed: Mapping[Pair, str], about: str, notes: str) -> str:
    """Return the page in Markdown.

    Parameters
    ----------
    found, failed : mapping of (attack, defence)
        The figures of what was run, and the error of what failed.
    about : str
        What was run, in a sentence or two.
    notes : str
        Written by hand; included word for word.
    """
    attacks, defences = _axes(found, failed)
    backdoors = [name for name in attacks if any(found[p].success is not None for p in found if p[0] == name)]

    def table(rows: Sequence[str], columns: Sequence[str], show: Callable[[Figures, str], str]) -> list[str]:
        lines = [f"| | {' | '.join(name.replace('|', '&#124;') for name in columns)} |"]
        lines += ["|---" * (len(columns) + 1) + "|"]
        for attack in rows:
            shown = [
                show(found[attack, defence], defence) if (attack, defence) in found else "not run"
                for defence in columns
            ]
            lines.append(f"| {attack} | {' | '.join(shown)} |")
        return [*lines, ""]

    def share(figures: Figures, defence: str, text: str) -> str:
        return "—" if defence in BY_COORDINATE else text

    lines = ["# Attacks against defences", "", about, ""]
    lines += ["## Accuracy on clean images", "", "Mean of the last three rounds.", ""]
    lines += table(attacks, defences, lambda figures, _: f"{figures.accuracy:.3f}")
    if backdoors:
        lines += [
            "## Success of backdoors",
            "",
            "Share of stamped test images that are taken for the target, those of the target class left out.",
            "Mean of the last three rounds.",
            "",
        ]
        lines += table(
            backdoors,
            defences,
            lambda figures, _: "—" if figures.success is None else f"{figures.success:.3f}",
        )
    lines += [
        "## The attackers' share of the weight",
        "",
        f"After the last round, all {MALICIOUS} together; {MALICIOUS / CLIENTS:.2f} is uniform. —: the rule judges each",
        "parameter separately, with equal weights. With nnm it is the share in the mixtures.",
        "",
    ]
    attacked = [name for name in attacks if name != NONE]
    lines += table(attacked, defences, lambda f, name: share(f, name, f"{f.attackers:.3f}"))
    lines += [
        "## Honest hospitals below half the uniform weight",
        "",
        f"After the last round, of {CLIENTS - MALICIOUS} ({CLIENTS} where nobody attacks). FedAvg weighs by numbers of",
        "images, so small hospitals count here without being flagged.",
        "",
    ]
    lines += table(attacks, defences, lambda f, name: share(f, name, f"{f.neglected:.3g}"))
    lines += ["## Known orderings", "", *_ordered(found, notes), "", *_remarks(found, failed)]
    return "\n".join(lines).rstrip() + "\n" + (f"\n{notes.strip()}\n" if notes.strip() else "")


def _axes(found: Mapping[Pair, Figures], failed: Mapping[Pair, str]) -> tuple[list[str], list[str]]:
    pairs = [*found, *failed]
    attacks = [name for name in (NONE, *ATTACKS) if any(name == pair[0] for pair in pairs)]
    return attacks, [name for name in DEFENCES if any(name == pair[1] for pair in pairs)]


def _ordered(found: Mapping[Pair, Figures], notes: str) -> Iterator[str]:
    missing = unexplained(found, notes)
    for ordering in ORDERINGS:
        try:
            holds, numbers = ordering.test(found)
        except KeyError:
            yield f"- `{ordering.key}`: {ordering.claim}. **Not measured.**"
            continue
        fate = "Appears" if holds else "Does not appear"
        tail = "; unexplained" if ordering.key in missing else "" if holds else "; see the notes"
        yield f"- `{ordering.key}`: {ordering.claim}. **{fate}**: {numbers}{tail}."


def _remarks(found: Mapping[Pair, Figures], failed: Mapping[Pair, str]) -> Iterator[str]:
    """Yield what a reader must know of single cells before believing them."""
    said = []
    for (attack, defence), error in failed.items():
        said.append(f"- {attack} against {defence} failed: {error.strip().splitlines()[-1]}")
    for (attack, defence), figures in found.items():
        if figures.idle:
            said.append(f"- {attack} against {defence}: {', '.join(figures.idle)} changed nothing.")
        if figures.faults:
            said.append(f"- {attack} against {defence}: hospitals lost {figures.faults} rounds.")
    if said:
        yield from ("## Cells to mind", "", *said)


def _held(common: Mapping[str, Any], seeds: Iterable[int]) -> str:
    """Say how many of the training images the attackers hold: it is their weight in FedAvg."""
    shares = []
    for seed in seeds:
        settings = Settings(**COMMON | common, malicious=MALICIOUS, seed=seed)
        sizes = [len(part) for part in prepare(Scenario.of(settings).data).hospitals]
        share = sum(sizes[number] for number in Scenario.of(settings).malicious) / sum(sizes)
        shares.append(f"{100 * share:.1f} % (seed {seed})")
    return f"The attackers hold {', '.join(shares)} of the training images, which is their weight in FedAvg."


def main() -> None:
    """Run all cells and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="medmnist:brain_mri4_28")
    parser.add_argument("--data-root", help="folder with the .npz file")
    parser.add_argument("--out", type=Path, default=Path("runs/matrix"), help="folder for the run folders")
    parser.add_argument("--jobs", type=int, default=default_jobs(), help="runs side by side")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[SEED], help="runs of each cell; their mean is shown"
    )
    parser.add_argument("--partition", default="dirichlet(alpha=0.5)")
    parser.add_argument("--attacks", nargs="+", default=[NONE, *ATTACKS], choices=[NONE, *ATTACKS])
    parser.add_argument("--defences", nargs="+", default=list(DEFENCES), choices=DEFENCES)
    parser.add_argument("--page", type=Path, default=Path("docs/matrix.md"))
    parser.add_argument("--notes", type=Path, default=Path("docs/matrix-notes.md"))
    given = parser.parse_args()
    common = {
        "data": given.data,
        "data_root": given.data_root,
        "rounds": given.rounds,
        "partition": given.partition,
    }
    runs = dict(plan(common, given.seeds, given.attacks, given.defences))
    cells = run_cells(runs, given.jobs, given.out)
    by_pair: dict[Pair, list[Figures]] = {}
    failed: dict[Pair, str] = {}
    for (attack, defence, _), cell in cells.items():
        if cell.error:
            failed[attack, defence] = cell.error
        else:
            by_pair.setdefault((attack, defence), []).append(measure(cell))
    # A mean over fewer seeds than its neighbours' would mislead.
    found = {pair: over_seeds(figures) for pair, figures in by_pair.items() if pair not in failed}
    notes = given.notes.read_text(encoding="utf-8") if given.notes.is_file() else ""
    about = (
        f"What `make reproduce-matrix` printed. Data {given.data}, {CLIENTS} hospitals, {given.partition}, "
        f"{MALICIOUS} of them malicious, one network, {given.rounds} rounds of one epoch.\n\n"
        f"{_held(common, given.seeds)}\n\n"
        "No rule is told how many attackers there are; where it assumes f, f is a third of the hospitals."
    )
    given.page.write_text(page(found, failed, about, notes), encoding="utf-8")
    for key in unexplained(found, notes):
        print(f"{key} does not appear: explain `{key}` in {given.notes}", file=sys.stderr)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
