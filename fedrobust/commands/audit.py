"""`fedrobust audit`: which records of a source are contaminated, and how."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedrobust.commands.flags import user_path
from fedrobust.errors import UserError
from fedrobust.printing import PlainConsole, one_line

if TYPE_CHECKING:
    from fedrobust.audit.examination import Audit
    from fedrobust.data.records import Records

__all__ = ["DataRoot", "ImageSize", "audit", "base_of", "folder_of", "read_source", "without_folders"]

#: Suspected records that the terminal shows; the page and the JSON have more.
_SHOWN = 12

DataRoot = Annotated[
    Path | None,
    typer.Option(
        "--data-root", parser=user_path, envvar="FEDROBUST_DATA_ROOT", help="folder of the data files"
    ),
]
ImageSize = Annotated[
    int | None,
    typer.Option("--image-size", min=8, max=512, help="image side in pixels; default: as in the data"),
]


def audit(
    source: Annotated[str, typer.Argument(help="a data source, as --data of simulate takes it")],
    data_root: DataRoot = None,
    image_size: ImageSize = None,
    methods: Annotated[
        str,
        typer.Option(
            "--methods",
            help="methods joined with '+', your own in auditors/ included; default: those that suspect few "
            "records of clean data (fedrobust list auditors)",
        ),
    ] = "",
    plant: Annotated[
        str,
        typer.Option(
            "--plant",
            metavar="ATTACK",
            help="contaminate the records first, such as label-noise(rate=0.1), to see what is found",
        ),
    ] = "",
    seed: Annotated[int, typer.Option("--seed", min=0, help="random seed")] = 0,
    out: Annotated[
        Path, typer.Option("--out", parser=user_path, help="folder for the audits' folders")
    ] = Path("audits"),
    as_json: Annotated[bool, typer.Option("--json", help="print the result alone, as JSON")] = False,
) -> None:
    r"""Find contaminated records before training: wrong labels, noise, planted marks, duplicates, strays.

    It writes audit.json, the page audit.html, and the records that nothing is held against as a source.

    Example: fedrobust audit medmnist:pneumoniamnist --data-root data
    """
    from fedrobust.audit.examination import DEFAULT, auditors_of
    from fedrobust.audit.examination import audit as examine
    from fedrobust.audit.files import summary, write_audit
    from fedrobust.audit.planting import planted
    from fedrobust.audit.subject import TrainedSubject
    from fedrobust.reports.audit import audit_page
    from fedrobust.results.files import json_text

    auditors = auditors_of(methods or DEFAULT)
    records = read_source(source, data_root, image_size)
    changed = None
    if plant:
        records, changed = planted(records, plant, seed)
    found = examine(TrainedSubject(records, seed), auditors)
    folder, source_shown = folder_of(out, source), without_folders(source)
    written = summary(found, source_shown, changed)
    texts = {"audit.json": json_text(written), "audit.html": audit_page(found, source_shown)}
    flags = write_audit(folder, found, texts, base_of(source, data_root))
    if as_json:
        print(json_text(written), end="")
    else:
        _print(found)
        for name in ("audit.html", "audit.json"):
            print(one_line(folder / name))
        print(one_line(f"train without the suspected records: fedrobust simulate {flags}"))


def read_source(source: str, data_root: Path | None, image_size: int | None) -> Records:
    """Return all records of a source, as `simulate` reads them."""
    from fedrobust.data.sources import load_records
    from fedrobust.data.spec import DataSpec
    from fedrobust.plugins import PluginSpec

    return load_records(
        DataSpec(
            PluginSpec.parse(source),
            None if data_root is None else str(data_root),
            image_size=image_size,
        )
    )


def base_of(source: str, data_root: Path | None) -> Path | None:
    """Return where the paths of a source's files start; None for a source without files."""
    kind, _, place = source.partition("(")[0].strip().partition(":")
    if kind not in ("folder", "manifest"):
        return None
    path = Path(place).expanduser()
    if data_root is not None and not path.is_absolute() and not path.exists():
        path = data_root / path
    return (path if kind == "folder" else path.parent).absolute()


def without_folders(source: str) -> str:
    """Return a source without the folders above its file, which are private: a page is passed on."""
    name, bracket, options = source.partition("(")
    kind, colon, place = name.partition(":")
    return kind + colon + Path(place.strip()).name + bracket + options


def folder_of(out: Path, source: str) -> Path:
    """Return the folder for what is found in a source; it is made.

    Raises
    ------
    UserError
        If it cannot be made.
    """
    name = re.sub(r"[^a-z0-9_]+", "-", without_folders(source).lower()).strip("-")
    folder = out / (name[:80] or "data")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be made ({error.strerror}); give another --out") from None
    return folder


def _print(found: Audit) -> None:
    from rich.table import Table

    console = PlainConsole()
    count = len(found.suspected)
    console.print(f"{count} of {len(found.records)} records are suspected.", soft_wrap=True)
    rates = Table(title="Suspected records", title_justify="left")
    for column in ("hospital", "kind", "records", "share", "95 % interval"):
        rates.add_column(column, justify="left" if column in ("hospital", "kind") else "right")
    for rate in found.rates:
        if rate.suspected:
            rates.add_row(
                rate.hospital,
                rate.kind,
                str(rate.suspected),
                f"{rate.suspected / rate.records:.1%}",
                f"{rate.low:.1%} to {rate.high:.1%}",
            )
    if count:
        console.print(rates)
        worst = Table(title=f"The {min(count, _SHOWN)} most suspicious", title_justify="left")
        for column in ("record", "label", "kind", "evidence"):
            worst.add_column(column, overflow="fold")
        for place in found.suspected[:_SHOWN].tolist():
            label = found.records.classes[found.records.labels[place]]
            files = found.records.facts.get("file")
            record = str(place) if files is None else f"{place} ({files[place]})"
            worst.add_row(record, label, found.kind(place), found.evidence(place))
        console.print(worst)
