"""Run folders that are damaged or hostile: their files with other values, types, lengths and bytes."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fedrobust.errors import UserError

__all__ = ["damaged", "refused_or_read"]

#: What stands in place of a value: of all types, of absurd sizes, and what a page or a terminal might obey.
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 3, 10**6, 10**8, 10**30, 0.5, -1e300, 1e999, float("nan")),
    *("", "a", "<script>", "[/red]", "\x1b[2J", "\ud800", "../../etc", "9" * 5000, "x" * 100_000),
    *([], [None], [[]], ["a"], [10**8], {}, {"a": 1}, {"-1": None}, {"1": {"1": 1}}),
)


def damaged(folder: Path, out: Path, chance: random.Random) -> Iterator[tuple[str, Path]]:
    """Yield copies of a run folder without end, each with one to three damages, and what they are.

    Parameters
    ----------
    folder : Path
        A finished run's.
    out : Path
        Where the copy stands; made again for each.
    chance : Random
    """
    names = sorted(path.name for path in folder.iterdir() if path.name != "report.html")
    while True:
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(folder, out, ignore=shutil.ignore_patterns("report.html"))
        if chance.random() < 0.9:
            # As whoever means harm does; else every damage is found by its checksum.
            (out / "SHA256SUMS").unlink(missing_ok=True)
        what = []
        for _ in range(chance.randint(1, 3)):
            path = out / chance.choice(names)
            if path.is_file() and not path.is_symlink():
                change = chance.choice((_bytes, _value, _value, _value, _value, _whole))
                what.append(f"{path.name}: {change(path, chance)}")
        yield "; ".join(what), out


def _bytes(path: Path, chance: random.Random) -> str:
    """Change, cut or repeat bytes."""
    content = bytearray(path.read_bytes())
    place = chance.randrange(len(content) + 1)
    kind = chance.choice(("flip", "cut", "repeat", "zeros"))
    if kind == "flip" and content:
        content[place - 1] ^= 1 << chance.randrange(8)
    elif kind == "cut":
        del content[place:]
    elif kind == "repeat":
        content += content[place:]
    else:
        content[place : place + 8] = bytes(8)
    path.write_bytes(content)
    return f"{kind} at byte {place}"


def _whole(path: Path, chance: random.Random) -> str:
    """Replace the file by another thing."""
    kind = chance.choice(("gone", "empty", "nested", "folder", "link"))
    path.unlink()
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "nested":
        path.write_text("[" * 100_000)
    elif kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to("/etc/hostname")
    return kind


def _value(path: Path, chance: random.Random) -> str:
    """Replace, delete or move one value of a JSON file or of one line."""
    try:
        lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
        place = chance.randrange(len(lines))
        content = json.loads(lines[place])
    except (ValueError, IndexError, RecursionError):
        return _bytes(path, chance)
    at, keys = content, []
    while isinstance(at, dict | list) and at:
        key = chance.choice(list(at) if isinstance(at, dict) else range(len(at)))
        keys.append(key)
        if not isinstance(at[key], dict | list) or not at[key] or chance.random() < 0.4:
            value = chance.choice(VALUES)
            if chance.random() < 0.2:
                del at[key]
            else:
                at[key] = value
            break
        at = at[key]
    lines[place] = json.dumps(content)
    path.write_text("\n".join(lines) + "\n", errors="backslashreplace")
    return f"{keys}"


def refused_or_read(function: Callable[[], object]) -> str:
    """Return how a function takes such files, if it neither works nor refuses them in a sentence."""
    try:
        function()
    except UserError as refusal:
        sentence = str(refusal)
        return "" if "\n" not in sentence and len(sentence) < 2000 else f"no sentence: {sentence[:200]!r}"
    except Exception as error:  # noqa: BLE001 - a traceback
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        where = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else ""
        return f"{type(error).__name__}: {str(error)[:200]} ({where})"
    return ""
