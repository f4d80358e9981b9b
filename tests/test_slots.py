"""Slots of shared memory: handed out, looked at, and given back only when nobody looks any more."""

from __future__ import annotations

import gc
import mmap
from pathlib import Path

import numpy as np
import pytest

from fedrobust.engines.slots import Place, Slots, fill


def test_written_array_is_read_back(tmp_path: Path) -> None:
    slots = Slots(tmp_path)
    values = np.random.default_rng(0).standard_normal((3, 5000)).astype(np.float32)
    place = slots.take(values.nbytes)
    fill(place, values)
    np.testing.assert_array_equal(slots.view(place, "<f4", (3, 5000)), values)


def test_slots_do_not_overlap(tmp_path: Path) -> None:
    slots = Slots(tmp_path)
    places = [slots.take(4 * 1500) for _ in range(150)]
    for number, place in enumerate(places):
        fill(place, np.full(1500, number, np.float32))
    for number, place in enumerate(places):
        assert (slots.view(place, "<f4", (1500,)) == number).all()
    assert len(set(places)) == 150


def test_a_slot_comes_back_when_the_last_view_is_gone(tmp_path: Path) -> None:
    slots = Slots(tmp_path)
    place = slots.take(400)
    part = slots.view(place, "<f4", (10, 10))[2:4].reshape(-1)
    assert slots.take(400) != place
    del part
    assert slots.take(400) == place


def test_pages_are_used_again(tmp_path: Path) -> None:
    slots = Slots(tmp_path)
    used = set()
    for _ in range(50):
        place = slots.take(8000)
        used.add(place)
        slots.release([place])
    assert len(used) == 1
    assert slots.used_bytes == 0


def test_a_slot_that_a_reader_holds_is_not_handed_out(tmp_path: Path) -> None:
    slots = Slots(tmp_path)
    place = slots.take(100)
    slots.hold(7, {place})
    slots.release([place])
    assert slots.used_bytes == mmap.PAGESIZE
    assert slots.take(100) != place
    slots.hold(8, set())
    assert slots.take(100) != place
    slots.hold(7, set())
    assert slots.take(100) == place


def test_too_large_an_array_is_refused_and_no_neighbour_harmed(tmp_path: Path) -> None:
    slots = Slots(tmp_path)
    first, second = slots.take(mmap.PAGESIZE), slots.take(mmap.PAGESIZE)
    fill(second, np.ones(10, np.float32))
    with pytest.raises(ValueError, match="do not fit"):
        fill(first, np.zeros(mmap.PAGESIZE + 1, np.uint8))
    assert (slots.view(second, "float32", (10,)) == 1).all()


def test_no_folder_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        Slots(tmp_path / "nowhere").take(10)
    with pytest.raises(OSError):
        fill(Place(str(tmp_path / "gone"), 0, 4096), np.ones(3))


def test_views_outlive_the_folder(tmp_path: Path) -> None:
    slots = Slots(tmp_path)
    place = slots.take(40)
    fill(place, np.arange(10, dtype=np.float32))
    view = slots.view(place, "<f4", (10,))
    Path(place.file).unlink()
    del slots
    gc.collect()
    assert view[-1] == 9
