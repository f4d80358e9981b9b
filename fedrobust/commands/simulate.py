"""`fedrobust simulate`: one run, or one run and its clean baseline."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedrobust.commands.flags import ConfigFile, Flags, JsonOnly, Quiet, settings_flags, user_path
from fedrobust.commands.messages import note
from fedrobust.errors import RunInterrupted
from fedrobust.printing import one_line
from fedrobust.settings import Settings, load_settings

if TYPE_CHECKING:
    from fedrobust.runtime.profiling import Profile

__all__ = ["simulate"]


@settings_flags
def simulate(
    flags: Flags,
    config: ConfigFile = None,
    baseline: Annotated[
        bool,
        typer.Option(
            "--baseline", help="run the clean baseline as well, and show what was lost to the attack"
        ),
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="run again, even if these settings were run before")
    ] = False,
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
        bool, typer.Option("--profile", help="show at the end where the time went (on stderr)")
    ] = False,
    as_json: JsonOnly = False,
    quiet: Quiet = False,
) -> None:
    r"""Simulate a federation with poisoned hospitals; measure how much accuracy the defence preserves.

    Example: fedrobust simulate --clients 10 --malicious 2 --attack "backdoor(size=0.05)"
    """
    if resume:
        from fedrobust.commands.resume import finished_run_of, settings_to_resume

        if finished := finished_run_of(resume):
            note(f"{finished} is finished; there is nothing to resume")
            _show(finished, as_json=as_json)
            return
        settings = settings_to_resume(resume, flags, config)
    else:
        settings = load_settings(flags, config)
    from fedrobust.engines.launch import keep_freed_memory, warm_up

    # Before anything else is imported: the workers import meanwhile.
    warm_up(settings.execution())
    keep_freed_memory()
    from fedrobust.commands.baseline import compare_with_baseline, with_same_atypical_hospitals
    from fedrobust.commands.run_summary import print_profile
    from fedrobust.runtime.profiling import Profile, process_began

    profile = Profile(process_began())
    silent = quiet or as_json
    try:
        if baseline:
            settings = with_same_atypical_hospitals(settings)
        folder = _run(settings, profile, silent=silent, fresh=fresh, resume=resume is not None)
        if baseline:
            compare_with_baseline(
                folder, settings, lambda clean: _run(clean, Profile(), silent=silent, fresh=fresh)
            )
    except KeyboardInterrupt as stop:
        _print_interrupted(stop, settings)
        raise typer.Exit(130) from None
    if show_profile:
        print_profile(profile)
    _show(folder, as_json=as_json)


def _show(folder: Path, *, as_json: bool) -> None:
    """Print a finished run; exit with 1 if it failed."""
    from fedrobust.commands.run_summary import print_run
    from fedrobust.results.finished_run import read_run

    run = read_run(folder)
    if as_json:
        print(run.summary.model_dump_json())
    else:
        print_run(run)
    if run.summary.failed:
        raise typer.Exit(1)


def _run(
    settings: Settings, profile: Profile, *, silent: bool, fresh: bool = False, resume: bool = False
) -> Path:
    """Return the folder of a finished run of these settings: a valid one that exists, or a new one."""
    from fedrobust.commands.existing_run import note_unfinished_run, valid_run
    from fedrobust.runtime.progress import Progress
    from fedrobust.runtime.runner import keep_report, run

    if not fresh and not resume:
        with profile.phase("data"):
            found = valid_run(settings)
        if found is not None:
            note(
                f"these settings were run before ({found.manifest.started}): this is that run; "
                "--fresh runs it again"
            )
            if not (found.folder / "report.html").is_file():
                keep_report(found.folder)  # A kill came between the run and its page.
            return found.folder
    if not resume:
        note_unfinished_run(settings)
    # A debugger follows the hospitals in its own process only.
    isolate = sys.gettrace() is None
    with Progress(quiet=silent) as progress:
        return run(settings, [progress], resume=resume, profile=profile, isolate=isolate).folder


def _print_interrupted(stop: KeyboardInterrupt, settings: Settings) -> None:
    """Print what an interrupted command keeps, and how to continue."""
    from fedrobust.scenario import RunIdentity

    if isinstance(stop, RunInterrupted) and stop.rounds:
        rounds = "round 1 is" if stop.rounds == 1 else f"rounds 1 to {stop.rounds} are"
        resume = f"fedrobust simulate --resume {shlex.quote(str(_short(stop.folder)))}"
        sentence = f"interrupted; {rounds} kept; resume with: {resume}"
    elif (RunIdentity.of(settings).folder / "summary.json").is_file():
        sentence = "interrupted after the run was complete; the same command continues from there"
    else:
        sentence = "interrupted before the first round was complete; nothing is kept"
    print(f"fedrobust: {one_line(sentence)}", file=sys.stderr)


def _short(path: Path) -> Path:
    """Return a path relative to the working folder, if it is inside."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
