"""The time limit in this process: it ends what hangs, and leaves the alarm to whoever else uses it."""

from __future__ import annotations

import math
import signal
import threading
import time

import pytest

from fedrobust.engines.timeouts import Overdue, time_limit


def test_time_limit_ends_a_sleep_a_wait_and_a_loop() -> None:
    def loop() -> None:
        while True:
            pass

    for hang in (lambda: time.sleep(60), lambda: threading.Event().wait(60), loop):
        began = time.monotonic()
        with pytest.raises(Overdue), time_limit(0.1):
            hang()
        assert 0.05 < time.monotonic() - began < 10


def test_work_in_time_is_not_interrupted_and_the_alarm_is_free_again() -> None:
    with time_limit(5):
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 0
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0
    assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL
    with pytest.raises(ValueError), time_limit(5):
        raise ValueError
    assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL


def test_a_plug_in_that_catches_every_exception_does_not_catch_it() -> None:
    with pytest.raises(Overdue), time_limit(0.05):
        try:
            time.sleep(60)
        except Exception:  # noqa: BLE001
            pytest.fail("it was caught")


def test_there_is_no_limit_where_there_is_no_alarm() -> None:
    with time_limit(math.inf):
        assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL
    # Somebody else's alarm is left to him, another thread has none.
    heard: list[int] = []
    signal.signal(signal.SIGALRM, lambda number, frame: heard.append(number))
    try:
        with time_limit(0.02):
            time.sleep(0.1)
            signal.raise_signal(signal.SIGALRM)
        assert heard == [signal.SIGALRM]
    finally:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
    ended: list[bool] = []

    def elsewhere() -> None:
        with time_limit(0.02):
            time.sleep(0.1)
        ended.append(True)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert ended == [True]
