from __future__ import annotations

import csv
import json
import math
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from suite_results import record, results

from fedrobust.errors import UserError
from fedrobust.suites.export import csv_text, table, write_csv, write_latex, write_parquet

Suite = dict[str, Any]


@pytest.fixture
def suite() -> Suite:
    """Return results with a second axis, a cell that failed and a row without any."""
    gone = [("none", "krum", 1), *(("label-flip", "krum", seed) for seed in range(3))]
    return results(threats=("none", "label-flip"), splits=("iid", "sites"), failed=gone)


def labelled(suite: Suite) -> list[dict[str, Any]]:
    columns, rows = table(record(suite))
    return [dict(zip(columns, row, strict=True)) for row in rows]


def test_columns_are_in_order(suite: Suite) -> None:
    columns, rows = table(record(suite))
    assert columns[:7] == [
        *("threat", "partition", "defence", "seeds"),
        *("accuracy", "accuracy_low", "accuracy_high"),
    ]
    at = columns.index("accuracy_vs_reference")
    assert columns[at : at + 5] == [
        *("accuracy_vs_reference", "accuracy_vs_reference_low", "accuracy_vs_reference_high"),
        *("accuracy_p", "accuracy_p_holm"),
    ]
    assert columns[at - 3 : at] == [f"sensitivity:pneumonia{end}" for end in ("", "_low", "_high")]
    assert columns[-2:] == ["caveats", "comparable"]
    assert len(set(columns)) == len(columns)
    assert {len(row) for row in rows} == {len(columns)}
    assert len(rows) == len(suite["rows"])


def test_rows_hold_the_values_of_their_labels(suite: Suite) -> None:
    for row, given in zip(labelled(suite), suite["rows"], strict=True):
        assert {axis: row[axis] for axis in given["labels"]} == given["labels"]
        assert row["seeds"] == len(given["seeds"])
        for key, estimate in given["metrics"].items():
            assert [row[key], row[f"{key}_low"], row[f"{key}_high"]] == [
                estimate["mean"],
                estimate["low"],
                estimate["high"],
            ]
        own = [line for line in suite["comparisons"] if line["labels"] == given["labels"]]
        assert bool(own) == (given["labels"]["defence"] != "fedavg" and bool(given["seeds"]))
        for line in own:
            assert row[f"{line['metric']}_vs_reference"] == line["difference"]
            assert row[f"{line['metric']}_vs_reference_high"] == line["high"]
            assert row[f"{line['metric']}_p_holm"] == line["p_holm"]
        if not own:
            assert row["accuracy_vs_reference"] is None


def test_caveats_of_a_row_are_joined(suite: Suite) -> None:
    suite["rows"][0]["caveats"] = [{"text": "oracle: is told", "excludes": True}, {"text": "2 of 3 seeds"}]
    assert [row["caveats"] for row in labelled(suite)][:2] == ["oracle: is told; 2 of 3 seeds", ""]


def test_suite_without_reference_has_no_columns_of_differences() -> None:
    columns, _ = table(record(results(reference=None)))
    assert not [column for column in columns if "reference" in column or column.endswith("_p")]


def test_csv_reads_back_to_the_bit(suite: Suite, tmp_path: Path) -> None:
    suite["rows"][0]["labels"]["threat"] = 'a, "quoted" · threat'
    write_csv(record(suite), tmp_path / "table.csv")
    content = (tmp_path / "table.csv").read_bytes()
    assert b"\r" not in content
    with (tmp_path / "table.csv").open(encoding="utf-8", newline="") as file:
        columns, *rows = csv.reader(file)
    expected_columns, expected = table(record(suite))
    assert columns == expected_columns
    for row, wanted in zip(rows, expected, strict=True):
        for text, value in zip(row, wanted, strict=True):
            read: Any = (
                (float(text) if text else None)
                if isinstance(value, float) or value is None
                else type(value)(text)
            )
            assert read == value
    write_csv(record(suite), tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_bytes() == content


@pytest.mark.parametrize(
    ("label", "cell"),
    [
        ('=HYPERLINK("http://x")', '\'=HYPERLINK("http://x")'),
        (" =1+1", "' =1+1"),
        ("+x", "'+x"),
        ("@x", "'@x"),
        ("-x", "'-x"),
        ("-0.5", "-0.5"),
        ("two\nlines", "two lines"),
        ("krum(f=2)", "krum(f=2)"),
    ],
)
def test_label_of_a_csv_is_no_formula(suite: Suite, label: str, cell: str) -> None:
    changed = json.loads(json.dumps(suite).replace('"krum"', json.dumps(label)))
    rows = list(csv.DictReader(csv_text(record(changed)).splitlines()))
    assert cell in {row["defence"] for row in rows}


def test_parquet_keeps_types_and_nulls(suite: Suite, tmp_path: Path) -> None:
    write_parquet(record(suite), tmp_path / "table.parquet")
    read = pq.read_table(tmp_path / "table.parquet")
    columns, rows = table(record(suite))
    assert read.column_names == columns
    assert [list(row.values()) for row in read.to_pylist()] == rows
    kinds = {field.name: str(field.type) for field in read.schema}
    assert {kinds.pop(name) for name in ("threat", "partition", "defence", "caveats", "comparable")} == {
        "string"
    }
    assert kinds.pop("seeds") == "int64"
    assert set(kinds.values()) == {"double"}
    assert read.column("accuracy").null_count == 2  # label-flip under krum, both splits


def body(path: Path) -> list[list[str]]:
    """Return the cells of a tabular, a list a line."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.endswith(r" \\")]
    return [re.split(r"(?<!\\)&", line.removesuffix(r" \\")) for line in lines]


def test_latex_is_a_complete_tabular(suite: Suite, tmp_path: Path) -> None:
    path = tmp_path / "table.tex"
    write_latex(record(suite), path, ["accuracy", "ece", "lost_to_attack"])
    text = path.read_text(encoding="utf-8")
    assert "booktabs" in text.splitlines()[2]
    assert text.count(r"\begin{tabular}{lllrrr}") == text.count(r"\end{tabular}") == 1
    assert text.index(r"\toprule") < text.index(r"\midrule") < text.index(r"\bottomrule")
    assert text.count(r"\midrule") == 4  # one a condition
    assert text.count("{") == text.count("}")
    assert text.count("$") % 2 == 0
    header, *lines = body(path)
    assert [cell.strip() for cell in header] == [
        *("threat", "partition", "defence", r"accuracy $\uparrow$", r"calibration error $\downarrow$"),
        r"loss to the clean baseline (\%) $\downarrow$",
    ]
    assert {len(line) for line in lines} == {6}
    assert len(lines) == len(suite["rows"])
    assert [line[0].strip() for line in lines[:6]] == ["none", "", "", "", "", "none"]
    assert (
        r"$^{1}$ oracle upper bound: knows who is malicious; not ranked." in text.split(r"\end{tabular}")[1]
    )


def test_latex_sets_the_best_of_each_condition_in_bold(tmp_path: Path) -> None:
    suite = results(threats=("none", "ipm"), defences=("fedavg", "krum", "oracle"))
    for row, (accuracy, ece) in zip(
        suite["rows"],
        [(0.8, 0.1), (0.9, 0.2), (0.99, 0.01), (0.5, 0.3), (None, 0.2), (0.7, 0.1)],
        strict=True,
    ):
        row["metrics"]["accuracy"] = {"mean": accuracy, "low": 0.05, "high": 1.0, "values": []}
        row["metrics"]["ece"] = {"mean": ece, "low": None, "high": None, "values": []}
    write_latex(record(suite), tmp_path / "table.tex", ["accuracy", "ece"])
    _, *lines = body(tmp_path / "table.tex")
    assert [[cell.strip() for cell in line[1:]] for line in lines] == [
        ["fedavg", r"$.800$ {\scriptsize $[.050, 1.000]$}", r"$\mathbf{.100}$"],
        ["krum", r"$\mathbf{.900}$ {\scriptsize $[.050, 1.000]$}", "$.200$"],
        # An oracle does not compete.
        ["oracle$^{1}$", r"$.990$ {\scriptsize $[.050, 1.000]$}", "$.010$"],
        # Where one value is left, there is nothing to be better than.
        ["fedavg", r"$.500$ {\scriptsize $[.050, 1.000]$}", "$.300$"],
        ["krum", "--", r"$\mathbf{.200}$"],
        ["oracle$^{1}$", r"$.700$ {\scriptsize $[.050, 1.000]$}", "$.100$"],
    ]


def test_latex_escapes_what_labels_may_hold(tmp_path: Path) -> None:
    nasty = r"a_b & 50% #1 {x} ~^ \y $2 | <z> --w [3]"
    write_latex(record(results(threats=(nasty, "[4]* · 5"), seeds=(0,))), tmp_path / "table.tex")
    _, *lines = body(tmp_path / "table.tex")
    assert lines[0][0].strip() == (
        r"a\_b \& 50\% \#1 \{x\} \textasciitilde{}\textasciicircum{} \textbackslash{}y \$2 \textbar{} "
        r"\textless{}z\textgreater{} -{}-w {[}3]"
    )
    assert lines[5][0].strip() == r"{[}4]{*} \textperiodcentered{} 5"
    assert "interval" not in (tmp_path / "table.tex").read_text(encoding="utf-8")  # one seed has none


def test_latex_without_metrics_shows_attack_loss_accuracy_and_drop(tmp_path: Path) -> None:
    write_latex(record(results()), tmp_path / "table.tex")
    assert [cell.strip() for cell in body(tmp_path / "table.tex")[0]][2:] == [
        r"loss to the clean baseline (\%) $\downarrow$",
        r"accuracy $\uparrow$",
        r"combined drop (\%) $\downarrow$",
    ]
    with pytest.raises(UserError, match="no metric 'acuracy'; did you mean .*'accuracy'"):
        write_latex(record(results()), tmp_path / "other.tex", ["acuracy"])
    assert not (tmp_path / "other.tex").exists()


def test_suite_without_methods_is_exported(tmp_path: Path) -> None:
    suite = results(reference=None)
    suite["method_axis"], suite["ranking"] = "", []
    write_latex(record(suite), tmp_path / "table.tex")
    assert [cell.strip() for cell in body(tmp_path / "table.tex")[1]][:2] == ["none", "fedavg"]
    assert len(body(tmp_path / "table.tex")) == 1 + len(suite["rows"])


def test_results_without_any_finished_cell_are_written(tmp_path: Path) -> None:
    gone = [("none", name, 0) for name in ("fedavg", "krum")]
    suite = results(("none",), ("fedavg", "krum"), (0,), failed=gone)
    suite["metrics"], suite["comparisons"] = [], []
    for row in suite["rows"]:
        row["metrics"] = {}
    for write in (write_csv, write_parquet, write_latex):
        write(record(suite), tmp_path / "table")
        assert (tmp_path / "table").stat().st_size
    assert table(record(suite)) == (
        ["threat", "defence", "seeds", "caveats", "comparable"],
        [["none", "fedavg", 0, "", "yes"], ["none", "krum", 0, "", "yes"]],
    )


@pytest.mark.parametrize("write", [write_csv, write_parquet, write_latex])
def test_path_that_cannot_be_written_is_one_sentence(write: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "none" / "table", tmp_path / "file" / "table", tmp_path):
        with pytest.raises(UserError, match="cannot write .*; name another place"):
            write(record(results()), path)


def test_values_are_finite_numbers() -> None:
    _, rows = table(record(results()))
    assert all(math.isfinite(value) for row in rows for value in row if isinstance(value, float))
