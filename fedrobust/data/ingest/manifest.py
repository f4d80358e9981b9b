"""The table of a manifest: CSV, TSV, JSON lines or Parquet, with columns that may have other names."""

from __future__ import annotations

import csv
import difflib
import json
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fedrobust.data.ingest.faults import Fault
from fedrobust.data.ingest.table import FACTS, Row, Table, missing_as_empty
from fedrobust.errors import UserError

__all__ = ["ManifestOptions", "read_lines", "read_manifest"]

#: Columns that a manifest may have; "hospital" is another name of "site".
_COLUMNS = ("path", "label", "split", "hospital", *FACTS)

#: How alike a column's name must be to a known one to be taken for a mistyped one.
_MISTYPED = 0.8

#: A line as its place in the file and its cells by column.
Line = tuple[str, dict[str, str]]


@dataclass(frozen=True)
class ManifestOptions:
    """How a manifest is read.

    Attributes
    ----------
    columns : mapping of str to str
        The file's own name of each of the known columns that has another one. `path` may be a template with
        columns in braces, such as ``data/{UID}/Sub_1.nii.gz``.
    join : str
        Another manifest beside it, for more columns; several with ``;`` between them. Empty for none.
    on : str
        The column that joined files have in common.
    classes : tuple of str
        All labels that count, in order; empty to take those that occur.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    join: str = ""
    on: str = ""
    classes: tuple[str, ...] = ()


def read_manifest(path: Path, source: str, options: ManifestOptions) -> Table:
    """Return the table of a manifest; its paths start in the manifest's folder.

    Raises
    ------
    UserError
        If a file cannot be read as a table, or a join does not work out.
    """
    header, lines = read_lines(path, source)
    faults: list[Fault] = []
    for name in [part.strip() for part in options.join.split(";") if part.strip()]:
        header, lines, lost = _joined(path.parent / name, source, options.on, header, lines)
        faults += lost
    names = _matched(header, options.columns, faults)
    rows = []
    for where, cells in lines:
        known = {column: missing_as_empty(cells.get(name)) for column, name in names.items()}
        template = options.columns.get("path", "")
        written = _filled(template, cells) if "{" in template else known.get("path", "")
        facts = {fact: known[fact] for fact in FACTS if fact in known}
        rows.append(Row(written, known.get("label", ""), where, facts, known.get("split", "")))
    columns = frozenset(FACTS) & names.keys()
    return Table(
        source, path.parent, tuple(rows), columns, "split" in names, options.classes, faults=tuple(faults)
    )


def _matched(header: Sequence[str], given: Mapping[str, str], faults: list[Fault]) -> dict[str, str]:
    """Return the file's name of each known column that it has; note those that are absent or mistyped."""
    plain = {name.strip().lower(): name for name in reversed(header)}
    names: dict[str, str] = {}
    for column in _COLUMNS:
        wanted = given.get(column)
        if wanted is None:
            if column in plain:
                names[column] = plain[column]
        elif "{" in wanted:
            lacking = sorted(set(_fields(wanted)) - set(header))
            if lacking:
                faults.append(_absent(column, ", ".join(lacking), header))
        elif wanted in header:
            names[column] = wanted
        else:
            faults.append(_absent(column, wanted, header))
    used = {*names.values(), *given.values()}
    for name in header:
        near = difflib.get_close_matches(name.strip().lower(), _COLUMNS, n=1, cutoff=_MISTYPED)
        if name in used or not near or near[0] in names or near[0] in given:
            continue
        needed = near[0] in ("path", "label")
        faults.append(
            Fault(
                f"the column '{name}' is not known; rename it to '{near[0]}', or say what it is, such as "
                f"({near[0]}={name})",
                "line 1",
                "unknown column",
                fatal=needed,
            )
        )
        if needed:
            # So that the report names what is wrong in the rows as well.
            names[near[0]] = name
    faults += [
        _absent(column, column, header)
        for column in ("path", "label")
        if column not in names and column not in given
    ]
    if "hospital" in names:
        names["site"] = names.pop("hospital")
    return names


def _absent(column: str, wanted: str, header: Sequence[str]) -> Fault:
    return Fault(
        f"there is no column '{wanted}' for {column}; the columns are {', '.join(header)}: say which one it "
        f"is, such as ({column}={header[0] if header else 'NAME'})",
        "line 1",
        "missing column",
        fatal=True,
    )


def _fields(template: str) -> list[str]:
    return [name for _, name, _, _ in string.Formatter().parse(template) if name]


def _filled(template: str, cells: Mapping[str, str]) -> str:
    """Return a template with its columns' values; plain names only, so that nothing is looked up in them."""
    pieces = []
    for literal, name, _, _ in string.Formatter().parse(template):
        pieces.append(literal + (missing_as_empty(cells.get(name)) if name else ""))
    return "".join(pieces)


def _joined(
    path: Path, source: str, on: str, header: list[str], lines: list[Line]
) -> tuple[list[str], list[Line], list[Fault]]:
    """Return the lines with the columns of another file added, by a column that both have."""
    if not on:
        raise UserError(f"data '{source}': join={path.name} needs the column that both have, such as on=UID")
    more_header, more = read_lines(path, source)
    for name, columns in ((source, header), (path.name, more_header)):
        if on not in columns:
            raise UserError(
                f"data '{source}': {name} has no column '{on}' to join on; its columns are "
                f"{', '.join(columns)}"
            )
    by_key: dict[str, dict[str, str]] = {}
    faults = []
    for where, cells in more:
        if cells[on] in by_key:
            what = f"{on} '{cells[on]}' stands in {path.name} twice"
            faults.append(Fault(what, f"{path.name}, {where}", "key twice"))
        by_key.setdefault(cells[on], cells)
    kept = []
    for where, cells in lines:
        if cells[on] in by_key:
            kept.append((where, by_key[cells[on]] | cells))
        else:
            faults.append(Fault(f"{on} '{cells[on]}' is missing in {path.name}", where, "key missing"))
    return [*header, *(name for name in more_header if name not in header)], kept, faults


def read_lines(path: Path, source: str) -> tuple[list[str], list[Line]]:
    """Return the header and the lines of a table.

    Raises
    ------
    UserError
        If there is no such file, or it is not what its ending says.
    """
    if not path.is_file():
        raise UserError(f"data '{source}': there is no file {path}; name the table of the images")
    ending = path.suffix.lower()
    readers = {".csv": _csv, ".tsv": _csv, ".txt": _csv, ".jsonl": _json_lines, ".ndjson": _json_lines}
    try:
        lines = list(_parquet(path) if ending in (".parquet", ".pq") else readers[ending](path))
    except KeyError:
        raise UserError(
            f"data '{source}': {path.name} must end in .csv, .tsv, .jsonl or .parquet, and be such a table"
        ) from None
    except UnicodeDecodeError:
        raise UserError(f"data '{source}': {path.name} is not UTF-8 text; save it as CSV in UTF-8") from None
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"data '{source}': {path.name} cannot be read as a table ({reason})") from error
    if not lines:
        raise UserError(f"data '{source}': {path.name} has no line below its header; list the images in it")
    header = list(dict.fromkeys(name for _, cells in lines for name in cells))
    return header, lines


def _csv(path: Path) -> Iterator[Line]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        first = stream.readline()
        stream.seek(0)
        separator = max("\t,;", key=first.count)
        reader = csv.reader(stream, delimiter=separator)
        header = next(reader, [])
        if len(set(header)) < len(header):
            raise ValueError("two columns have the same name")
        for cells in reader:
            if not any(cells):
                continue
            if len(cells) > len(header):
                raise ValueError(f"line {reader.line_num} has {len(cells)} cells for {len(header)} columns")
            yield f"line {reader.line_num}", dict(zip(header, cells, strict=False))


def _json_lines(path: Path) -> Iterator[Line]:
    with path.open(encoding="utf-8") as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            found = json.loads(line)
            if not isinstance(found, dict):
                raise UserError(f"line {number} is no JSON object")
            yield f"line {number}", {str(name): missing_as_empty(value) for name, value in found.items()}


def _parquet(path: Path) -> Iterator[Line]:
    import pandas

    table = pandas.read_parquet(path)
    columns = [str(name) for name in table.columns]
    for number, values in enumerate(table.itertuples(index=False, name=None), 1):
        yield f"row {number}", dict(zip(columns, map(missing_as_empty, values), strict=True))
