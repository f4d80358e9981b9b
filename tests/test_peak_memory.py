"""The extra memory of a piece of work."""

from __future__ import annotations

import mmap
import sys
from pathlib import Path

import numpy as np
import pytest

from fedrobust.runtime import peak_memory
from fedrobust.runtime.peak_memory import extra_memory

_WORKS = peak_memory._set_back() is not None


@pytest.mark.skipif(not _WORKS, reason="this system does not set its high-water mark back")
@pytest.mark.parametrize("mib", [16, 64])
def test_peak_memory_counts_what_the_block_frees_again(mib: int) -> None:
    with extra_memory() as taken:
        # From the system itself: of what the process holds free nothing would show.
        held = np.frombuffer(mmap.mmap(-1, mib << 20), np.uint8)
        held[:] = 1
        del held
    assert taken.mib == pytest.approx(mib, abs=6)


@pytest.mark.skipif(not _WORKS, reason="this system does not set its high-water mark back")
def test_peak_memory_excludes_earlier_peaks() -> None:
    held = np.ones(64 << 17)
    del held
    with extra_memory() as taken:
        pass
    assert taken.mib is not None and taken.mib < 6


@pytest.mark.skipif(sys.platform != "linux", reason="of Linux")
def test_peak_memory_is_known_where_proc_is_complete() -> None:
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("this kernel has no clear_refs")
    with extra_memory() as taken:
        pass
    assert taken.mib is None or taken.mib >= 0


@pytest.mark.parametrize("name", ["_CLEAR", "_STATUS"])
def test_peak_memory_without_proc_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(peak_memory, name, tmp_path / "no" / "such")
    with extra_memory() as taken:
        pass
    assert taken.mib is None


def test_peak_memory_with_a_mark_that_cannot_be_reset_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Some sandboxes take the write and do nothing.
    (tmp_path / "status").write_text("Name:\tpython\nVmHWM:\t  900000 kB\nVmRSS:\t  100000 kB\n")
    monkeypatch.setattr(peak_memory, "_CLEAR", tmp_path / "clear_refs")
    monkeypatch.setattr(peak_memory, "_STATUS", tmp_path / "status")
    with extra_memory() as taken:
        pass
    assert taken.mib is None
    (tmp_path / "status").write_text("VmHWM:\t  100200 kB\nVmRSS:\t  100000 kB\n")
    with extra_memory() as taken:
        (tmp_path / "status").write_text("VmHWM:\t  102248 kB\nVmRSS:\t  100000 kB\n")
    assert taken.mib == 2.0


def test_peak_memory_passes_errors_of_the_block_on() -> None:
    with pytest.raises(ValueError, match="mine"), extra_memory():
        raise ValueError("mine")
