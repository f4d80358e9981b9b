"""The page of the newest attacks and defences, on made-up results."""

from __future__ import annotations

from benchmarks.newest import Pair, costs, tables
from fedrobust.results.suite_records import CostRow, SuiteCosts

HONEST = Pair(accuracy=0.8, at_end=None, after=None, durability=None, false_flags=0.25, honest_lost=2.0)
ATTACKED = Pair(accuracy=0.5, at_end=0.75, after=0.3, durability=0.4, false_flags=None, honest_lost=None)


def test_each_figure_stands_in_its_table_under_its_defence() -> None:
    found = {("none", "flame | csft"): HONEST, ("a3fl", "flame | csft"): ATTACKED, ("a3fl", "median"): HONEST}
    text = "\n".join(tables(found))
    by_title = {part.partition("\n")[0]: part.splitlines()[1:] for part in text.split("### ")[1:]}
    lines = {title: [line for line in part if line.startswith("|")] for title, part in by_title.items()}
    accuracy = lines["Accuracy on clean images"]
    assert accuracy[0] == "| | flame &#124; csft | median |"
    assert accuracy[2:] == ["| none | 0.800 | — |", "| a3fl | 0.500 | 0.800 |"]
    # A threat without a trigger has no row where success is shown.
    assert lines["Attack success in the attack's last round"][2:] == ["| a3fl | 0.75 | — |"]
    assert lines["Attack success at the end"][2:] == ["| a3fl | 0.30 | — |"]
    assert lines["Durability"][2:] == ["| a3fl | 0.40 | — |"]
    assert lines["False flags"][2:] == ["| none | 25.0 | — |", "| a3fl | — | 25.0 |"]
    assert lines["Honest hospitals lost"][2:] == ["| none | 2.0 | — |", "| a3fl | — | 2.0 |"]


def test_costs_are_means_over_the_threats_of_each_suite() -> None:
    rows = (CostRow(labels={"defence": "median"}, aggregation_s=0.001),)
    more = (*rows, CostRow(labels={"defence": "median"}, aggregation_s=0.003))
    assert list(costs({"one": SuiteCosts(rows=rows), "two": SuiteCosts(rows=more), "none": SuiteCosts()}))[
        2:
    ] == ["| median | 1.0 | 2.0 | — |"]
