"""One cell in this process: whatever goes wrong is its error, and it leaves nothing to the next."""

from __future__ import annotations

import traceback
import warnings

from fedrobust.disk.lock import Held
from fedrobust.errors import UserError
from fedrobust.results.folder import UnwritableRun
from fedrobust.settings import Settings
from fedrobust.suites.scheduler import Outcome
from fedrobust.suites.store import failure_file

__all__ = ["run_one"]


def run_one(settings: Settings, *, report: bool = False) -> Outcome:
    """Run one cell in this process."""
    from fedrobust.flower.client_app import forget_hospitals
    from fedrobust.results.checkpoint import UnusableCheckpoint
    from fedrobust.runtime.runner import run

    try:
        with warnings.catch_warnings():
            # That an attack had no effect stands in the summary; it need not stand between lines of progress.
            warnings.simplefilter("ignore", UserWarning)
            try:
                # A failed run may have been mended since, at any round: then none of its rounds is kept.
                run(settings, resume=not failure_file(settings).exists(), report=report)
            except UnusableCheckpoint:
                run(settings, report=report)
    except Held as error:
        return Outcome(settings.digest(), str(error), held=True)
    except UnwritableRun as error:
        return Outcome(settings.digest(), str(error), resumable=True)
    except UserError as error:
        return Outcome(settings.digest(), str(error))
    except (Exception, SystemExit):  # noqa: BLE001 - whatever goes wrong fails this cell only
        return Outcome(settings.digest(), traceback.format_exc())
    finally:
        forget_hospitals()
    return Outcome(settings.digest())
