"""Settings from flags and from TOML files."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedrobust.errors import UserError
from fedrobust.settings.model import Settings
from fedrobust.settings.wording import Given, unknown_setting

__all__ = ["load_settings", "read_toml", "read_toml_text"]


#: Bytes of a TOML file; the project's own have a few thousand.
_LONGEST = 250_000

#: Tables in tables; a suite has three. Python's reader takes minutes for a key of many thousand parts.
_DEEPEST = 20
_LONG_KEY = re.compile(rf"""(?<![\w"'-])(?:[\w"'-]++[ \t]*+\.[ \t]*+){{{_DEEPEST}}}""")


def load_settings(
    flags: Mapping[str, Any] | None = None, file: Path | None = None, *, where: str = "the command line"
) -> Settings:
    """Build settings: flags override the file, the file overrides the defaults.

    Parameters
    ----------
    flags : mapping, optional
        Setting names (dashes or underscores) to values; ``None`` values count as not given.
    file : Path, optional
        A TOML file of settings, or a run folder, which holds one; a leading ``~`` is expanded.
    where : str
        What to call the flags in an error message.

    Returns
    -------
    Settings

    Raises
    ------
    UserError
        If the file cannot be read, a key is unknown, or a value does not fit.
    """
    file = None if file is None else _settings_file(file.expanduser())
    values = {} if file is None else read_toml(file)
    flagged = {_underscored(key): value for key, value in (flags or {}).items() if value is not None}
    for key in (*values, *flagged):
        if key not in Settings.model_fields:
            raise UserError(
                unknown_setting(key, Settings.model_fields, str(file) if key in values else where)
            )
    given = Given(where, frozenset(flagged), file if values else None)
    return Settings.model_validate({**values, **flagged}, context=given)


def _settings_file(path: Path) -> Path:
    """Return the file that holds the settings, given it or a run folder."""
    if not path.is_dir():
        return path
    if not (path / "settings.toml").is_file():
        raise UserError(f"{path}: holds no settings.toml; give --config a TOML file or a run folder")
    return path / "settings.toml"


def read_toml(file: Path) -> dict[str, Any]:
    """Return the settings in a TOML file, keys with underscores; `UserError` if it cannot be read."""
    text = read_toml_text(file)
    too_deep = f"{file}: has more than {_DEEPEST} brackets or tables in each other, as no settings need"
    if _LONG_KEY.search(text):
        raise UserError(too_deep)
    try:
        values = tomllib.loads(text)
    # Its reader raises ValueError for a number of more digits than Python reads, too.
    except ValueError as error:
        raise UserError(f"{file}: is not valid TOML: {error}") from None
    except RecursionError:
        raise UserError(too_deep) from None
    if _deeper(values, _DEEPEST):
        raise UserError(too_deep)
    return {_underscored(key): value for key, value in values.items()}


def read_toml_text(file: Path) -> str:
    """Return the text of a TOML file; `UserError` if it cannot be read, or is longer than any settings."""
    try:
        with file.open("rb") as stream:
            content = stream.read(_LONGEST + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{file}: cannot be read ({reason}); give --config an existing TOML file") from None
    if len(content) > _LONGEST:
        raise UserError(f"{file}: has more than {_LONGEST // 1000} KB, which no file of settings needs")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: is not valid TOML: {error}") from None


def _deeper(value: object, levels: int) -> bool:
    """Tell whether lists and tables are nested deeper than so many levels."""
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_deeper(item, levels - 1) for item in inner)


def _underscored(key: str) -> str:
    return key.replace("-", "_")
