"""One sentence for a setting that does not fit: where it was given, what it is, and what it must be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from fedrobust.errors import nearest
from fedrobust.plugins.options import allowed_values
from fedrobust.settings.synonyms import SYNONYMS

__all__ = ["Given", "sentence", "unknown_setting"]


@dataclass(frozen=True)
class Given:
    """Where the values of settings came from; unless stated otherwise, from a call in Python.

    Attributes
    ----------
    where : str
        What to call flags, such as ``"the command line"``; empty for a call in Python.
    flags : frozenset of str
        The settings that flags gave.
    file : Path or None
        The file that gave the others.
    """

    where: str = ""
    flags: frozenset[str] = frozenset()
    file: Path | None = None

    def source(self) -> str:
        """Return what to call all of the values."""
        if self.file is not None and not self.flags:
            return str(self.file)
        return self.where or "Settings"

    def place(self, key: str, value: object) -> str:
        """Return what to call one value."""
        if not self.where:
            return f"Settings({key}={value!r})"
        dashed = key.replace("_", "-")
        if key in self.flags or self.file is None:
            return f"--{dashed} {value!r}"
        return f"{self.file}: {dashed} {value!r}"


def unknown_setting(key: str, fields: Mapping[str, FieldInfo], where: str) -> str:
    """Return the sentence for a setting that does not exist."""
    dashed, known = key.replace("_", "-"), [name.replace("_", "-") for name in fields]
    return f"{where}: there is no setting '{dashed}'; {nearest(dashed, known, SYNONYMS)}"


def sentence(error: ValidationError, fields: Mapping[str, FieldInfo], given: Given) -> str:
    """Turn pydantic's first complaint into one sentence that names the flag, the file or the argument."""
    first = error.errors()[0]
    message = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        return f"{given.source()}: {message[:1].lower()}{message[1:]}"
    key, value = str(first["loc"][0]), first["input"]
    if first["type"] == "extra_forbidden":
        return unknown_setting(key, fields, given.source())
    if first["type"] == "value_error":
        return f"{given.place(key, value)}: {message}"
    allowed = allowed_values(fields[key].rebuild_annotation()) or message.removeprefix("Input should be ")
    hint = ""
    if first["type"] == "literal_error" and isinstance(value, str):
        choices = [word.strip(" '") for word in first["ctx"]["expected"].replace(" or ", ",").split(",")]
        hint = f"; {nearest(value, choices)}"
    return f"{given.place(key, value)}: must be {allowed}{hint}"
