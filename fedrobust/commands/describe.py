"""`fedrobust describe`: what the records of a source are, and how hospitals would share them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedrobust.commands.audit import DataRoot, ImageSize, folder_of
from fedrobust.commands.flags import user_path
from fedrobust.errors import UserError
from fedrobust.printing import PlainConsole, one_line

if TYPE_CHECKING:
    from fedrobust.data.description import Description
    from fedrobust.data.sources import FederationData

__all__ = ["describe"]

#: Hospitals, where the source does not say how many there are.
_HOSPITALS = 10


def describe(
    source: Annotated[str, typer.Argument(help="a data source, as --data of simulate takes it")],
    data_root: DataRoot = None,
    image_size: ImageSize = None,
    clients: Annotated[
        int | None, typer.Option("--clients", min=1, help="hospitals; default: the source's sites, or 10")
    ] = None,
    partition: Annotated[
        str, typer.Option("--partition", help="how hospitals share the images; default: site, or iid")
    ] = "",
    split: Annotated[str, typer.Option("--split", help="pooled or official")] = "pooled",
    seed: Annotated[int, typer.Option("--seed", min=0, help="random seed")] = 0,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="leave out files that cannot be used")] = False,
    out: Annotated[
        Path, typer.Option("--out", parser=user_path, help="folder for the descriptions' folders")
    ] = Path("descriptions"),
    as_json: Annotated[bool, typer.Option("--json", help="print the description alone, as JSON")] = False,
) -> None:
    r"""Describe a source: labels by part, hospital, sex and view, missing values, intensities, duplicates.

    It writes describe.json and the page describe.html.

    Example: fedrobust describe medmnist:wbc5_64 --data-root data
    """
    from fedrobust.data.description import Description
    from fedrobust.reports.describe import describe_page
    from fedrobust.results.files import json_text

    data = _data(source, data_root, image_size, clients, partition, split, seed, skip_bad=skip_bad)
    found = Description.of(data)
    folder, text = folder_of(out, source), json_text(asdict(found))
    try:
        (folder / "describe.json").write_text(text, encoding="utf-8", errors="backslashreplace")
        page = describe_page(found, data.records)
        (folder / "describe.html").write_text(page, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise UserError(f"{folder} cannot be written to ({error.strerror}); give another --out") from None
    if as_json:
        print(text, end="")
        return
    _print(found)
    for name in ("describe.html", "describe.json"):
        print(one_line(folder / name))


def _data(
    source: str,
    data_root: Path | None,
    image_size: int | None,
    clients: int | None,
    partition: str,
    split: str,
    seed: int,
    *,
    skip_bad: bool,
) -> FederationData:
    from dataclasses import replace

    from fedrobust.data.sources import load_records, prepare
    from fedrobust.data.spec import DataSpec
    from fedrobust.plugins import PluginSpec

    if split not in ("pooled", "official"):
        raise UserError(f"--split '{split}': give pooled or official")
    spec = DataSpec(
        PluginSpec.parse(source),
        None if data_root is None else str(data_root),
        image_size=image_size,
        split="official" if split == "official" else "pooled",
        seed=seed,
        skip_bad=skip_bad,
    )
    if not partition:
        sites = set(load_records(spec).facts.get("site", ()))
        partition = "site" if len(sites) > 1 and "" not in sites else "iid"
        clients = clients or (len(sites) if partition == "site" else None)
    return prepare(replace(spec, partition=PluginSpec.parse(partition), hospitals=clients or _HOSPITALS))


def _print(found: Description) -> None:
    from rich.table import Table

    console = PlainConsole()
    channels, height, width = found.shape
    patients = "" if found.patients is None else f" of {found.patients} patients"
    console.print(
        f"{found.images} images{patients}, {height} x {width}, {'RGB' if channels == 3 else 'grey'}, "
        f"{len(found.classes)} classes",
        soft_wrap=True,
    )
    for counts in found.counts:
        table = Table(title=f"Images by {counts.by} and class", title_justify="left")
        table.add_column(counts.by, overflow="fold")
        for name in (*found.classes, "all"):
            table.add_column(name, justify="right", overflow="fold")
        for group, row in zip(counts.groups, counts.images, strict=True):
            table.add_row(group, *map(str, row), str(sum(row)))
        console.print(table)
    for one in found.missing:
        if one.images:
            held = [
                f"{number} {name}" for number, name in zip(one.by_class, found.classes, strict=True) if number
            ]
            console.print(f"{one.fact} is missing for {one.images} images: {', '.join(held)}", soft_wrap=True)
    grey = Table(title="Grey levels by hospital", title_justify="left")
    for column in ("hospital", "images", "mean", "contrast", "5 % darker than", "5 % brighter than"):
        grey.add_column(column, justify="left" if column == "hospital" else "right")
    for own in found.intensities:
        levels = (own.mean, own.contrast, own.darkest, own.brightest)
        grey.add_row(own.hospital, str(own.images), *(f"{level:.0f}" for level in levels))
    console.print(grey)
    apart = "–" if found.divergence is None else f"{found.divergence:.3f} bits"
    console.print(
        f"Mean Jensen-Shannon divergence of two hospitals' labels: {apart} (0 alike, 1 nothing in common); "
        f"effective classes per hospital: {found.effective_classes:.2f} of {len(found.classes)}",
        soft_wrap=True,
    )
    console.print(
        f"Duplicates: {found.duplicates_across_parts} across parts, "
        f"{found.duplicates_across_hospitals} across hospitals",
        soft_wrap=True,
    )
