"""What a hospital's code does to its process costs its own round only."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from fedrobust.engines import process_state
from fedrobust.engines.answering import answer
from fedrobust.engines.process_state import ProcessState, adopt_orphans, descendants
from fedrobust.engines.signals import noted_signals
from fedrobust.engines.worker import end_with_children
from fedrobust.flower.compat import identify_process


def replied(work: Callable[[], Any], limit_s: float = 30.0) -> Message:
    """Return the answer of a hospital that does some work."""
    identify_process()
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        work()
        return Message(RecordDict(), reply_to=message)

    context = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={})
    return answer(app, Message(RecordDict(), 1, "train"), context, limit_s)


def _raise(error: BaseException) -> Callable[[], None]:
    def work() -> None:
        raise error

    return work


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), SystemExit(3), BaseException("odd"), ValueError("no")]
)
def test_whatever_is_raised_is_an_error_in_place_of_the_reply(error: BaseException) -> None:
    reply = replied(_raise(error))
    assert reply.has_error() and type(error).__name__ in reply.error.reason


def test_a_long_error_is_cut_where_it_arises() -> None:
    assert len(replied(_raise(ValueError("x" * 1_000_000))).error.reason) < 1000


def test_what_is_printed_goes_to_the_error_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert not replied(lambda: print("hello")).has_error()
    out, err = capsys.readouterr()
    assert out == "" and "hello" in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_real_signal_goes_on_even_if_it_is_caught(number: signal.Signals) -> None:
    def end(_: int, __: object) -> None:
        raise KeyboardInterrupt

    def work() -> None:
        with contextlib.suppress(BaseException):
            os.kill(os.getpid(), number)
            time.sleep(1)

    before = signal.signal(number, end)
    try:
        with pytest.raises(KeyboardInterrupt):
            replied(work)
        with pytest.raises(KeyboardInterrupt):
            replied(lambda: os.kill(os.getpid(), number))
        with noted_signals() as came:
            assert not came()
    finally:
        signal.signal(number, before)


def test_a_hospital_that_catches_the_alarm_is_overdue_all_the_same() -> None:
    def work() -> None:
        with contextlib.suppress(BaseException):
            while True:
                time.sleep(0.01)

    reply = replied(work, limit_s=0.2)
    assert reply.has_error() and reply.error.reason == "no answer within 0.2 s"


def test_the_state_of_the_process_is_set_back(tmp_path: Any) -> None:
    folder, limits = os.getcwd(), resource.getrlimit(resource.RLIMIT_NOFILE)

    def work() -> None:
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        os.chdir(tmp_path)
        os.umask(0o777)
        os.environ["FEDROBUST_TEST"] = "1"
        sys.setrecursionlimit(5000)
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, limits[1]))

    assert not replied(work).has_error()
    assert torch.get_default_dtype() == torch.float32 and torch.is_grad_enabled()
    assert os.getcwd() == folder and "FEDROBUST_TEST" not in os.environ
    (tmp_path / "new").touch()
    assert (tmp_path / "new").stat().st_mode & 0o400
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == limits
    assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL


def test_what_cannot_be_set_back_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ProcessState().restore()
    values = iter((1, 2, 3))
    monkeypatch.setattr(process_state, "_parts", lambda: [(lambda: next(values), lambda value: None)])
    assert not ProcessState().restore()


def test_what_parts_from_its_parent_is_seen_and_ended() -> None:
    ours, theirs = os.pipe()
    # In a fork: other tests of this process may have left a server of forks.
    fork = os.fork()
    if fork == 0:
        adopt_orphans()
        before = descendants(os.getpid())
        child = os.fork()
        if child == 0:
            if os.fork() == 0:
                os.setsid()
                os.write(theirs, b".")
                time.sleep(30)
            os._exit(0)
        os.waitpid(child, 0)
        during = descendants(os.getpid())
        os.write(theirs, b".")
        ended = os.waitstatus_to_exitcode(os.wait()[1])
        os._exit(0 if (before, len(during), ended) == ([], 1, -signal.SIGKILL) else 1)
    for _ in range(2):
        os.read(ours, 1)
    end_with_children(fork)
    assert os.waitstatus_to_exitcode(os.waitpid(fork, 0)[1]) == 0
    os.close(ours)
    os.close(theirs)


def test_a_copy_of_the_process_does_not_go_on() -> None:
    ours, theirs = os.pipe()

    def work() -> None:
        if os.fork() == 0:
            return

    replied(work)
    # Only this process comes here; the copy has ended and closed its end.
    os.close(theirs)
    assert os.read(ours, 1) == b""
    os.close(ours)
    os.wait()
