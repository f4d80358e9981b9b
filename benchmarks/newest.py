"""The newest attacks against the newest defences, with all hospitals in each round and with a sample of them.

``make reproduce-newest`` runs what is missing of the suites ``newest`` and ``newest_sampled`` and writes
docs/newest.md, which includes docs/newest-notes.md word for word: what the figures mean is written there.
Finished runs are not repeated.

    python -m benchmarks.newest --data-root DATA --seeds 1 --set rounds=2 --page try.md

Further flags are those of ``fedrobust benchmark``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.pages import escaped, prose, row, table_head
from fedrobust.results.files import read_record
from fedrobust.results.finished_run import read_run
from fedrobust.results.suite_records import SuiteCosts, SuiteResults
from fedrobust.suites.metrics import mean_known

#: The suites, and how their federations differ.
SUITES = (("newest", "Ten hospitals, all in each round"), ("newest_sampled", "Forty hospitals, ten a round"))

#: The label of the federation without attackers.
NONE = "none"


@dataclass(frozen=True)
class Pair:
    """What became of a threat under a defence: means over the seeds, None where there is no such figure.

    Attributes
    ----------
    accuracy : float or None
        On the clean test images, in the last three rounds.
    at_end, after : float or None
        Attack success rate in the attack's last round, and in the run's last three.
    durability : float or None
        The share of the first that the last round of the run still has.
    false_flags : float or None
        Share of the honest hospitals' replies that were flagged.
    honest_lost : float or None
        Honest hospitals with less than half of their fair weight in the last round.
    """

    accuracy: float | None
    at_end: float | None
    after: float | None
    durability: float | None
    false_flags: float | None
    honest_lost: float | None


#: Threat and defence.
Found = Mapping[tuple[str, str], Pair]


def found_in(suite: SuiteResults, folder: Path) -> Found:
    """Return what a suite's finished runs show."""
    found = {}
    for one in suite.rows:
        runs = [read_run(folder / cell.run) for cell in one.cells if cell.run is not None]
        threat = one.labels["threat"]
        means = {key: estimate.mean for key, estimate in one.metrics.items()}
        found[threat, one.labels["defence"]] = Pair(
            accuracy=means.get("accuracy"),
            at_end=mean_known(each.success_at_its_end for run in runs for each in run.summary.threats),
            after=means.get("attack_success_rate"),
            durability=means.get("durability"),
            false_flags=means.get("benign_false_flags" if threat == NONE else "false_flags"),
            honest_lost=means.get("honest_lost"),
        )
    return found


def tables(found: Found) -> Iterator[str]:
    """Yield the tables of one suite, a row for each threat and a column for each defence."""
    shown: tuple[tuple[str, str, Callable[[Pair], float | None], str], ...] = (
        ("Accuracy on clean images", "Mean of the last three rounds.", lambda one: one.accuracy, ".3f"),
        (
            "Attack success in the attack's last round",
            "Share of stamped test images of other classes that are classified as the target.",
            lambda one: one.at_end,
            ".2f",
        ),
        (
            "Attack success at the end",
            "Mean of the last three rounds, two to five rounds after the attack has ended.",
            lambda one: one.after,
            ".2f",
        ),
        (
            "Durability",
            "The success rate of the run's last round, as a share of that of the attack's last round.",
            lambda one: one.durability,
            ".2f",
        ),
        (
            "False flags",
            "Percent of honest hospitals' replies.",
            lambda one: _percent(one.false_flags),
            ".1f",
        ),
        (
            "Honest hospitals lost",
            "Those with less than half of their fair weight in the last round; of all honest ones.",
            lambda one: one.honest_lost,
            ".1f",
        ),
    )
    defences = list(dict.fromkeys(defence for _, defence in found))
    for title, about, get, form in shown:
        rows = []
        for threat in dict.fromkeys(threat for threat, _ in found):
            values = [get(found[threat, name]) if (threat, name) in found else None for name in defences]
            if any(value is not None for value in values):
                texts = ["—" if value is None else format(value, form) for value in values]
                rows.append(row([escaped(threat), *texts]))
        if rows:
            yield from (f"### {title}", "", *prose(about), "", *table_head(["", *map(escaped, defences)]))
            yield from (*rows, "")


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


def costs(by_suite: Mapping[str, SuiteCosts]) -> Iterator[str]:
    """Yield the table of what aggregation takes."""
    milliseconds: dict[str, dict[str, list[float | None]]] = {}
    for suite, found in by_suite.items():
        for one in found.rows:
            by_defence = milliseconds.setdefault(one.labels["defence"], {})
            by_defence.setdefault(suite, []).append(one.aggregation_s)
    yield from table_head(["defence", *by_suite])
    for defence, by_name in milliseconds.items():
        means = [mean_known(by_name.get(suite, [])) for suite in by_suite]
        yield row([escaped(defence), *("—" if mean is None else f"{1000 * mean:.1f}" for mean in means)])


def page(folders: Mapping[str, Path], notes: str) -> str:
    """Return the page in Markdown; ``notes`` stand behind its first paragraph, word for word."""
    suites = {name: read_record(folder / "suite.json", SuiteResults) for name, folder in folders.items()}
    seeds = next(iter(suites.values())).seeds
    about = (
        f"What `make reproduce-newest` printed: brain_mri4_28, dirichlet(0.5), one network, 20 rounds of one "
        f"epoch, a fifth of the hospitals malicious; means over the seeds "
        f"{', '.join(map(str, seeds))}. Suites: `experiments/newest.toml` and "
        f"`experiments/newest_sampled.toml`. —: there is no such figure, as of threats "
        f"without a trigger."
    )
    lines = ["# The newest attacks and defences", "", *prose(about), "", notes.strip(), ""]
    for name, title in SUITES:
        if name in suites:
            lines += [f"## {title}", "", *tables(found_in(suites[name], folders[name]))]
    cost = {name: read_record(folder / "costs.json", SuiteCosts) for name, folder in folders.items()}
    lines += [
        "## Milliseconds",
        "",
        *prose("A later round's aggregation, repairs included; mean of runs' medians."),
    ]
    return "\n".join([*lines, "", *costs(cost)]).rstrip() + "\n"


def main() -> int:
    """Run what is missing and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data-root", required=True, help="folder of the image files")
    parser.add_argument("--out", type=Path, default=Path("runs/suites"), help="folder of the suites")
    parser.add_argument("--page", type=Path, default=Path("docs/newest.md"))
    parser.add_argument("--notes", type=Path, default=Path("docs/newest-notes.md"))
    given, further = parser.parse_known_args()
    folders, status = {}, 0
    for suite, _ in SUITES:
        command = [sys.executable, "-m", "fedrobust", "benchmark", suite, "--quiet"]
        command += ["--out", str(given.out), "--data-root", given.data_root, *further]
        # With some cells failed, which is 1, the others have their results.
        if (ended := subprocess.run(command, check=False).returncode) not in (0, 1):
            return ended
        status = status or ended
        found = given.out.glob(f"{suite}*/suite.json")
        folders[suite] = max(
            (file.parent for file in found if read_record(file, SuiteResults).name == suite),
            key=lambda folder: (folder / "suite.json").stat().st_mtime,
        )
    notes = given.notes.read_text(encoding="utf-8") if given.notes.is_file() else ""
    given.page.write_text(page(folders, notes), encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main())
