"""A suite's table for other programs: CSV, Parquet, LaTeX."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from fedrobust.disk.files import write_bytes
from fedrobust.errors import UserError, nearest
from fedrobust.evaluation.metrics import SYNTHESIS_SHOWN, Unit, is_utility
from fedrobust.printing import one_line
from fedrobust.results.suite_records import Comparison, Estimate, MetricInfo, SuiteResults, SuiteRow
from fedrobust.results.suite_table import Condition, SuiteTable
from fedrobust.suites.text import digits

__all__ = ["csv_text", "table", "write_csv", "write_latex", "write_parquet"]

Value = str | int | float | None

#: What begins a formula in a spreadsheet.
_FORMULA = ("=", "+", "-", "@")
#: The columns of a metric's difference to the reference.
_COMPARED = ("_vs_reference", "_vs_reference_low", "_vs_reference_high", "_p", "_p_holm")
#: The metrics of a LaTeX table, unless others are asked for.
_SHOWN = ("lost_to_attack", "accuracy", "drop")
#: Those of a suite of generators, beside what their images are good for.
_OF_GENERATORS = (*SYNTHESIS_SHOWN, "detection_auroc", "benign_false_flags")
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


def table(results: SuiteResults) -> tuple[list[str], list[list[Value]]]:
    """Return a suite's results as one flat, wide table.

    Parameters
    ----------
    results : SuiteResults

    Returns
    -------
    columns : list of str
        The axes; ``seeds``, their number; for each metric ``accuracy``, ``accuracy_low``,
        ``accuracy_high``; for each metric that is compared ``accuracy_vs_reference``, ``_low`` and
        ``_high`` of it, ``accuracy_p``, ``accuracy_p_holm``; ``caveats``; ``comparable``, whether the row
        may be ranked.
    rows : list of list
        One for each combination of labels, in the suite's order; None where a value is undefined.
    """
    axes = [axis.name for axis in results.axes]
    keys = [metric.key for metric in results.metrics]
    compared = {(*_place(line.labels, axes), line.metric): line for line in results.comparisons}
    tested = [key for key in keys if any(line.metric == key for line in results.comparisons)]
    columns = [*axes, "seeds"]
    columns += [key + end for key in keys for end in ("", "_low", "_high")]
    columns += [key + end for key in tested for end in _COMPARED]
    rows = []
    for row in results.rows:
        values: list[Value] = [*_place(row.labels, axes), len(row.seeds)]
        for key in keys:
            estimate = row.metrics.get(key, Estimate())
            values += [estimate.mean, estimate.low, estimate.high]
        for key in tested:
            values += _difference(compared.get((*_place(row.labels, axes), key)))
        rows.append([*values, "; ".join(caveat.text for caveat in row.caveats), _yes(row.comparable)])
    return [*columns, "caveats", "comparable"], rows


def _difference(line: Comparison | None) -> list[Value]:
    """Return the columns of a comparison, in the order of `_COMPARED`."""
    return (
        [None] * len(_COMPARED)
        if line is None
        else [line.difference, line.low, line.high, line.p, line.p_holm]
    )


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def write_csv(results: SuiteResults, path: Path) -> None:
    """Write the table as CSV, in UTF-8; see `csv_text`.

    Raises
    ------
    UserError
        If the file cannot be written.
    """
    _write(path, csv_text(results).encode())


def csv_text(results: SuiteResults) -> str:
    r"""Return the table as CSV: lines end in \\n, floats with all their digits, undefined values empty."""
    columns, rows = table(results)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(_cell, columns))
    writer.writerows(map(_cell, row) for row in rows)
    return text.getvalue()


def _cell(value: Value) -> str:
    """Return a value as a CSV cell; a label that would be a spreadsheet's formula begins with a quote."""
    if value is None:
        return ""
    if not isinstance(value, str):
        return repr(value) if isinstance(value, float) else str(value)
    text = one_line(value)
    return f"'{text}" if text.lstrip()[:1] in _FORMULA and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def write_parquet(results: SuiteResults, path: Path) -> None:
    """Write the table as Parquet: texts as strings, ``seeds`` as int64, all else as float64 or null.

    Raises
    ------
    UserError
        If the file cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns, rows = table(results)
    words = {axis.name for axis in results.axes} | {"caveats", "comparable"}
    kinds = {"seeds": pa.int64(), **dict.fromkeys(words, pa.string())}
    schema = pa.schema([(column, kinds.get(column, pa.float64())) for column in columns])
    arrays = [pa.array([row[place] for row in rows], type=field.type) for place, field in enumerate(schema)]
    content = pa.Table.from_arrays(arrays, schema=schema)
    buffer = io.BytesIO()
    pq.write_table(content, buffer)
    _write(path, buffer.getvalue())


def write_latex(results: SuiteResults, path: Path, metrics: Sequence[str] | None = None) -> None:
    r"""Write chosen metrics as a LaTeX tabular, to be read by ``\input``.

    A block for each condition, a line for each method: the mean, its interval in small print where there is
    one. The best mean of each condition is bold; a row that may not be ranked, such as an oracle's, never
    is. Caveats are numbered and explained below the table.

    Parameters
    ----------
    results : SuiteResults
    path : Path
    metrics : sequence of str, optional
        Keys of the metrics shown; else, of those that the suite has, what was lost to the attack, accuracy
        and the combined drop, or of generators distances, accuracy, trigger rate, detection and utility.

    Raises
    ------
    UserError
        If a metric is not in the suite, or the file cannot be written.
    """
    table = SuiteTable(results)
    chosen = _chosen(table.metrics, metrics)
    axes = [*table.condition_axes, *filter(None, [table.axis])]
    lines = [
        "% " + " ".join(results.title.split()),
        "% Made by: " + " ".join(results.command.split()),
        r"% Needs \usepackage{booktabs}; read it with \input, inside a table or on its own.",
        r"\begin{tabular}{" + "l" * len(axes) + "r" * len(chosen) + "}",
        r"\toprule",
        " & ".join([*map(_escape, axes), *map(_heading, chosen)]) + r" \\",
    ]
    for condition in table.conditions:
        lines += [r"\midrule", *_block(table, condition, chosen)]
    lines += [r"\bottomrule", r"\end{tabular}", *_footnotes(table, chosen)]
    _write(path, ("\n".join(lines) + "\n").encode())


def _block(table: SuiteTable, condition: Condition, chosen: Sequence[MetricInfo]) -> Iterator[str]:
    """Yield a condition's lines; it is named on the first of them."""
    named = [_escape(label) for label in condition]
    for method in table.methods:
        row = table.row(condition, method)
        if row is None:
            continue
        cells = [*named, *([_escape(method) + _raised(table, row)] if table.axis else [])]
        for metric in chosen:
            estimate = table.estimate(condition, method, metric.key)
            cells.append(_value(estimate, metric.unit, table.is_best(condition, method, metric.key)))
        yield " & ".join(cells) + r" \\"
        named = [""] * len(condition)


def _raised(table: SuiteTable, row: SuiteRow) -> str:
    """Return the numbers of a row's caveats, raised."""
    numbers = [str(place) for place, caveat in enumerate(table.signs, 1) if caveat in row.caveats]
    return f"$^{{{','.join(numbers)}}}$" if numbers else ""


def _value(estimate: Estimate, unit: Unit, bold: bool) -> str:
    if estimate.mean is None:
        return "--"
    mean = digits(estimate.mean, unit)
    text = rf"$\mathbf{{{mean}}}$" if bold else f"${mean}$"
    if estimate.low is None:
        return text
    return text + rf" {{\scriptsize $[{digits(estimate.low, unit)}, {digits(estimate.high, unit)}]$}}"


def _heading(metric: MetricInfo) -> str:
    arrow = {"higher": r" $\uparrow$", "lower": r" $\downarrow$", None: ""}[metric.better]
    unit = {"percent": r" (\%)", "points": " (points)"}.get(metric.unit, "")
    return _escape(metric.name) + unit + arrow


def _footnotes(table: SuiteTable, chosen: Sequence[MetricInfo]) -> list[str]:
    """Return what brackets and raised numbers mean, in small print below the table."""
    sentences = []
    spreads = [row.metrics.get(metric.key, Estimate()) for row in table.rows.values() for metric in chosen]
    if any(estimate.low is not None for estimate in spreads):
        seeds = len(table.results.seeds)
        sentences.append(rf"Means over {seeds} seeds; in brackets their 95\,\% bootstrap intervals.")
    sentences += [
        f"$^{{{place}}}$ {_escape(caveat.text)}{'; not ranked' if caveat.excludes else ''}."
        for place, caveat in enumerate(table.signs, 1)
    ]
    return [r"\par\smallskip{\footnotesize " + " ".join(sentences) + r"\par}"] if sentences else []


def _chosen(known: Mapping[str, MetricInfo], keys: Sequence[str] | None) -> list[MetricInfo]:
    if keys is None:
        wanted = [*_OF_GENERATORS, *filter(is_utility, known)] if "fid" in known else _SHOWN
        return [known[key] for key in wanted if key in known] or list(known.values())[:2]
    for key in keys:
        if key not in known:
            raise UserError(f"the suite has no metric '{key}'; {nearest(key, known)}")
    return [known[key] for key in keys]


def _escape(text: str) -> str:
    # Two hyphens would become a dash.
    return re.sub("-(?=-)", "-{}", one_line(text).translate(_ESCAPES))


def _place(labels: Mapping[str, str], axes: Sequence[str]) -> tuple[str, ...]:
    return tuple(labels[axis] for axis in axes)


def _write(path: Path, content: bytes) -> None:
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(content)  # A pipe or a terminal.
        else:
            write_bytes(path.resolve(), content)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; name another place for it"
        ) from error
