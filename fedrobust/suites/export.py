"""A suite's table for other programs: CSV, Parquet, LaTeX."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedrobust.errors import UserError, nearest
from fedrobust.suites.reading import Reading, digits

__all__ = ["table", "write_csv", "write_latex", "write_parquet"]

Value = str | int | float | None

_DIFFERENCE = {"_vs_reference": "difference", "_vs_reference_low": "low", "_vs_reference_high": "high"}
_TEST = {"_p": "p", "_p_holm": "p_holm"}
_ESCAPES = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "|": r"\textbar{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "·": r"\textperiodcentered{}",
        # At the start of a row either would be taken for an argument of the \\ before it.
        "[": "{[}",
        "*": "{*}",
        "\n": " ",
        **{sign: "\\" + sign for sign in "&%$#_{}"},
    }
)


def table(results: Mapping[str, Any]) -> tuple[list[str], list[list[Value]]]:
    """Return a suite's results as one flat, wide table.

    Parameters
    ----------
    results : mapping
        What ``suite.json`` holds.

    Returns
    -------
    columns : list of str
        The axes; ``seeds``, their number; for each metric ``accuracy``, ``accuracy_low``, ``accuracy_high``; for each metric
        that is compared ``accuracy_vs_reference``, ``_low`` and ``_high`` of it, ``accuracy_p``, ``accuracy_p_holm``; ``caveats``.
    rows : list of list
        One a combination of labels, in the suite's order; None where a figure is undefined.
    """
    axes = [axis["name"] for axis in results["axes"]]
    keys = [metric["key"] for metric in results["metrics"]]
    compared = {_place(line["labels"], axes, line["metric"]): line for line in results["comparisons"]}
    tested = [key for key in keys if any(line["metric"] == key for line in results["comparisons"])]
    fields = {**_DIFFERENCE, **_TEST}
    columns = [*axes, "seeds"]
    columns += [key + end for key in keys for end in ("", "_low", "_high")]
    columns += [key + end for key in tested for end in fields]
    rows = []
    for row in results["rows"]:
        values: list[Value] = [str(row["labels"][axis]) for axis in axes]
        values.append(len(row["seeds"]))
        for key in keys:
            spread = row["metrics"].get(key, {})
            values += [_float(spread.get(part)) for part in ("mean", "low", "high")]
        for key in tested:
            line = compared.get(_place(row["labels"], axes, key), {})
            values += [_float(line.get(part)) for part in fields.values()]
        rows.append([*values, "; ".join(row["caveats"])])
    return [*columns, "caveats"], rows


def write_csv(results: Mapping[str, Any], path: Path) -> None:
    r"""Write the table as CSV: UTF-8, lines end in \\n, floats with all their digits, undefined figures empty.

    Raises
    ------
    UserError
        If the file cannot be written.
    """
    columns, rows = table(results)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(
        ["" if value is None else repr(value) if isinstance(value, float) else value for value in row]
        for row in rows
    )
    _write(path, lambda: path.write_text(text.getvalue(), encoding="utf-8", newline="\n"))


def write_parquet(results: Mapping[str, Any], path: Path) -> None:
    """Write the table as Parquet: labels and caveats are strings, ``seeds`` int64, all else float64, undefined figures null.

    Raises
    ------
    UserError
        If the file cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns, rows = table(results)
    words = {axis["name"] for axis in results["axes"]} | {"caveats"}
    kinds = {"seeds": pa.int64(), **dict.fromkeys(words, pa.string())}
    schema = pa.schema([(column, kinds.get(column, pa.float64())) for column in columns])
    arrays = [pa.array([row[place] for row in rows], type=field.type) for place, field in enumerate(schema)]
    content = pa.Table.from_arrays(arrays, schema=schema)
    _write(path, lambda: pq.write_table(content, path))


def write_latex(results: Mapping[str, Any], path: Path, metrics: Sequence[str] | None = None) -> None:
    """Write chosen metrics as a LaTeX tabular, to be read by ``\\input``.

    A block a condition, a line a method: the mean, its interval in small print where there is one. The best mean of each
    condition is bold; rows with a caveat, such as an oracle's, do not compete and have a number, explained below the table.

    Parameters
    ----------
    results : mapping
        What ``suite.json`` holds.
    path : Path
    metrics : sequence of str, optional
        Keys of the metrics shown; else accuracy and the combined drop, of those that the suite has.

    Raises
    ------
    UserError
        If a metric is not in the suite, or the file cannot be written.
    """
    reading = Reading(results)
    chosen = _chosen(reading.metrics, metrics)
    axes = [*reading.axes, *filter(None, [reading.axis])]
    lines = [
        "% " + " ".join(str(results["title"]).split()),
        "% Made by: " + " ".join(str(results["command"]).split()),
        r"% Needs \usepackage{booktabs}; read it with \input, inside a table or on its own.",
        r"\begin{tabular}{" + "l" * len(axes) + "r" * len(chosen) + "}",
        r"\toprule",
        " & ".join([*map(_escape, axes), *map(_heading, chosen)]) + r" \\",
    ]
    for condition in reading.conditions:
        lines += [r"\midrule", *_block(reading, condition, chosen)]
    lines += [r"\bottomrule", r"\end{tabular}", *_footnotes(results, reading, chosen)]
    _write(path, lambda: path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n"))


def _block(
    reading: Reading, condition: tuple[str, ...], chosen: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    """Yield a condition's lines; it is named on the first of them."""
    best = {metric["key"]: reading.best(condition, metric["key"]) for metric in chosen}
    named = [_escape(label) for label in condition]
    for method in reading.methods:
        row = reading.row(condition, method)
        if row is None:
            continue
        cells = [*named, *([_escape(method) + _raised(reading, row)] if reading.axis else [])]
        for metric in chosen:
            spread = reading.spread(condition, method, metric["key"])
            mean = spread["mean"]
            bold = not row["caveats"] and mean is not None and mean == best[metric["key"]]
            cells.append(_figure(spread, metric["unit"], bold))
        yield " & ".join(cells) + r" \\"
        named = [""] * len(condition)


def _raised(reading: Reading, row: Mapping[str, Any]) -> str:
    """Return the numbers of a row's caveats, raised."""
    numbers = [str(place) for place, caveat in enumerate(reading.signs, 1) if caveat in row["caveats"]]
    return f"$^{{{','.join(numbers)}}}$" if numbers else ""


def _figure(spread: Mapping[str, Any], unit: str, bold: bool) -> str:
    if spread["mean"] is None:
        return "--"
    mean = digits(spread["mean"], unit)
    text = rf"$\mathbf{{{mean}}}$" if bold else f"${mean}$"
    if spread["low"] is None:
        return text
    return text + rf" {{\scriptsize $[{digits(spread['low'], unit)}, {digits(spread['high'], unit)}]$}}"


def _heading(metric: Mapping[str, Any]) -> str:
    arrow = {"higher": r" $\uparrow$", "lower": r" $\downarrow$", None: ""}[metric["better"]]
    return (
        _escape(metric["name"]) + {"percent": r" (\%)", "points": " (points)"}.get(metric["unit"], "") + arrow
    )


def _footnotes(
    results: Mapping[str, Any], reading: Reading, chosen: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Return what brackets and raised numbers are, in small print below the table."""
    sentences = []
    spreads = [row["metrics"].get(metric["key"], {}) for row in results["rows"] for metric in chosen]
    if any(spread.get("low") is not None for spread in spreads):
        seeds = len(results["seeds"])
        sentences.append(rf"Means over {seeds} seeds; in brackets their 95\,\% bootstrap intervals.")
    sentences += [f"$^{{{place}}}$ {_escape(caveat)}." for place, caveat in enumerate(reading.signs, 1)]
    return [r"\par\smallskip{\footnotesize " + " ".join(sentences) + r"\par}"] if sentences else []


def _chosen(known: Mapping[str, Mapping[str, Any]], keys: Sequence[str] | None) -> list[Mapping[str, Any]]:
    if keys is None:
        return [known[key] for key in ("accuracy", "drop") if key in known] or list(known.values())[:2]
    for key in keys:
        if key not in known:
            raise UserError(f"the suite has no metric '{key}'; {nearest(key, known)}")
    return [known[key] for key in keys]


def _escape(text: str) -> str:
    # Two hyphens would become a dash.
    return re.sub("-(?=-)", "-{}", text.translate(_ESCAPES))


def _place(labels: Mapping[str, Any], axes: Sequence[str], metric: str) -> tuple[Any, ...]:
    return (*(labels[axis] for axis in axes), metric)


def _float(value: Any) -> float | None:
    return None if value is None else float(value)


def _write(path: Path, write: Callable[[], object]) -> None:
    try:
        write()
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; name another place for it"
        ) from error
