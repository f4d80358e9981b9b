"""`--resume`: the settings of an unfinished run, which decide its result and must be those of its folder."""

from __future__ import annotations

from pathlib import Path

from fedrobust.commands.flags import Flags
from fedrobust.disk.files import open_regular
from fedrobust.errors import UserError
from fedrobust.results.folder import partial_of
from fedrobust.scenario import RunIdentity
from fedrobust.settings import Settings, load_settings

__all__ = ["finished_run_of", "settings_to_resume"]


def finished_run_of(run: Path) -> Path | None:
    """Return the finished run of a folder, given with or without ``.partial``; None if it is unfinished."""
    final = _final(run)
    is_finished = (final / "summary.json").is_file() and not partial_of(final).exists()
    return final if is_finished else None


def settings_to_resume(run: Path, flags: Flags, config: Path | None) -> Settings:
    """Return the settings of an unfinished run; only execution settings may be given again.

    Parameters
    ----------
    run : Path
        Its folder, with or without ``.partial``.
    flags : mapping
    config : Path or None

    Raises
    ------
    UserError
        If there is no such run, its settings are not those of its folder, or others are given.
    """
    folder = partial_of(_final(run))
    file = folder / "settings.toml"
    if not file.is_file():
        raise UserError(f"{run}: there is no unfinished run; --resume takes a folder that ends in .partial")
    with open_regular(file):
        kept = load_settings({}, file)
    made = partial_of(RunIdentity.of(kept).folder).name
    if made != folder.absolute().name:
        raise UserError(
            f"{file} has been edited, or the folder renamed: a run of these settings is called {made}; "
            "put it right, or run without --resume"
        )
    given = {key: value for key, value in flags.items() if value is not None}
    settings = load_settings({**given, "out": str(folder.parent)}, file)
    if config is not None or settings.digest() != kept.digest():
        raise UserError(
            f"--resume takes its settings from {file}; give no others but --engine, --workers and the like"
        )
    return settings


def _final(run: Path) -> Path:
    return run.with_name(run.name.removesuffix(".partial"))
