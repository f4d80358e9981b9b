"""`fedrobust cache`: what the cache of decoded images holds, and how to empty it."""

from __future__ import annotations

from typing import Annotated

import typer

from fedrobust.data.limits import gigabytes
from fedrobust.data.scratch import cache_folder
from fedrobust.printing import one_line

__all__ = ["cache"]


def cache(
    clear: Annotated[bool, typer.Option("--clear", help="delete all decoded images")] = False,
) -> None:
    """Show which sources have decoded images in the cache, and how large they are.

    Example: fedrobust cache --clear
    """
    from fedrobust.data.ingest.cache import cache_entries, clear_cache

    entries = cache_entries()
    total = gigabytes(sum(size for _, size in entries))
    if clear:
        clear_cache()
        print(f"{len(entries)} sources, {total}, deleted from {cache_folder()}")
        return
    for source, size in entries:
        print(f"{gigabytes(size):>10}  {one_line(source)}")
    print(f"{len(entries)} sources, {total}, in {cache_folder()}")
