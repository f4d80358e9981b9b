"""The server's handling of strategies' global generators and errors, and what it measures of them."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from federations import tiny

from fedrobust import UserError, run
from fedrobust.runtime.exchange import strategy_at_work
from fedrobust.seeding import derive


def test_strategy_draws_repeat_and_restore_the_global_generators(tmp_path: Path) -> None:
    settings = tiny(tmp_path)
    before = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[union-attr]
    drawn = []
    for number in (1, 1, 2):
        with strategy_at_work("median", settings.seed, number):
            drawn.append((random.random(), np.random.random()))
    assert drawn[0] == drawn[1] != drawn[2]
    # Other words would give every recorded run of a strategy that draws other bits.
    plain = random.Random(derive(settings.seed, "sampling", 1))
    numpys = np.random.RandomState(derive(settings.seed, "numpy-sampling", 1) % 2**32)
    assert drawn[0] == (plain.random(), numpys.random_sample())
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # type: ignore[union-attr]


def test_strategy_that_raises_is_reported_with_file_and_line() -> None:
    with (
        pytest.raises(UserError, match=r"fails in round 3: ZeroDivisionError.*test_server.py, line \d+"),
        strategy_at_work("median", 0, 3),
    ):
        1 / 0  # noqa: B018


def test_defence_memory_excludes_its_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "strategies").mkdir()
    (tmp_path / "strategies" / "loads_much.py").write_text(
        "import mmap\nimport numpy as np\nfrom fedrobust.federation import Defence\n\n"
        # From the system itself: of what the process holds free nothing would show.
        "def fresh(mib):\n    held = np.frombuffer(mmap.mmap(-1, mib << 20), np.uint8)\n"
        "    held[:] = 1\n    return held\n\n"
        "class LoadsMuch(Defence):\n    loaded = None\n    times = 0\n"
        "    def preload(self):\n        self.times += 1\n        self.loaded = fresh(40)\n"
        "    def weigh(self, updates):\n        assert self.times == 1\n"
        "        fresh(20 if updates[0].round == 2 else 1)\n        return np.ones(len(updates))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    result = run(tiny(tmp_path, rounds=3, strategy="loads-much"))
    lines = [json.loads(line) for line in (result.folder / "timings.jsonl").read_text().splitlines()]
    assert "defence_mib" not in lines[0]
    taken = [line["defence_mib"] for line in lines[1:]]
    if None in taken:
        pytest.skip("this system does not set its high-water mark back")
    assert taken[0] < 35 and 15 < taken[1] < 35 and taken[2] < 15
