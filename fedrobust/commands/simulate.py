"""`fedrobust simulate`: one run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fedrobust.commands.flags import ConfigFile, JsonOnly, Quiet, settings_flags, user_path
from fedrobust.errors import UserError
from fedrobust.settings import Settings, load_settings

__all__ = ["simulate"]


@settings_flags
def simulate(
    flags: dict[str, Any],
    config: ConfigFile = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            "--resume",
            parser=user_path,
            metavar="PATH",
            help="resume an unfinished run, given its .partial folder",
        ),
    ] = None,
    show_profile: Annotated[
        bool, typer.Option("--profile", help="say at the end where the time went (on stderr)")
    ] = False,
    as_json: JsonOnly = False,
    quiet: Quiet = False,
) -> None:
    r"""Simulate a federation of hospitals, some of them poisoned, and measure what the defence saved.

    Example: fedrobust simulate --clients 10 --malicious 2 --attack "backdoor(size=0.05)"
    """
    settings = _settings_to_resume(resume, flags, config) if resume else load_settings(flags, config)
    from fedrobust.engines.launch import keep_freed_memory, warm_up
    from fedrobust.scenario import Execution

    # Before anything else is imported: the workers import meanwhile.
    warm_up(Execution.of(settings))
    keep_freed_memory()
    from fedrobust.commands.run_display import Terminal, print_profile
    from fedrobust.runtime.profiling import Profile, process_began
    from fedrobust.runtime.runner import run

    profile = Profile(process_began())
    terminal = Terminal(settings, quiet=quiet or as_json)
    with terminal:
        result = run(settings, [terminal], resume=resume is not None, profile=profile)
    if show_profile:
        print_profile(profile)
    if as_json:
        print(result.to_json())
    else:
        terminal.finish(result)


def _settings_to_resume(run: Path, flags: dict[str, Any], config: Path | None) -> Settings:
    """Return the settings of an unfinished run; only what does not bear on the result may be given anew."""
    from fedrobust.results.checkpoint import settings_of

    file = settings_of(run)
    given = {key: value for key, value in flags.items() if value is not None}
    settings = load_settings({**given, "out": str(file.parent.parent)}, file)
    if config is not None or settings.digest() != load_settings({}, file).digest():
        raise UserError(
            f"--resume takes its settings from {file}; give no others but --engine, --workers and the like"
        )
    return settings
