from __future__ import annotations

import hashlib
import random
import subprocess
import sys

import numpy as np
import pytest
import torch

from fedrobust.seeding import (
    attack_rng,
    collusion_rng,
    derive,
    generator,
    globally_seeded,
    torch_generator,
    torch_seeded,
    trigger_rng,
)


def test_derive_is_sha256_of_seed_and_purpose() -> None:
    digest = hashlib.sha256(b"int:7\x1fstr:fit\x1fint:3\x1fint:0").digest()
    assert derive(7, "fit", 3, 0) == int.from_bytes(digest[:8], "big") >> 1


def test_derive_is_pinned() -> None:
    # Changing this number changes every run ever recorded.
    assert derive(0, "etf") == 3455214436939233909


def test_derive_is_the_same_in_another_process() -> None:
    code = "from fedrobust.seeding import derive; print(derive(5, 'weights', 1))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == derive(5, "weights", 1)


def test_every_part_of_the_purpose_counts() -> None:
    seeds = [
        derive(0),
        derive(1),
        derive(0, "fit"),
        derive(0, "fit", 1, 2),
        derive(0, "fit", 2, 1),
        derive(0, "fit", 12),
        derive(0, "fit", "1", 2),
        derive(0, "fit1", 2),
        derive(0, "batches", 1, 2),
        derive(0, "", "fit"),
    ]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_derived_seeds_spread_over_the_range() -> None:
    seeds = np.array([derive(0, "spread", number) for number in range(400)], dtype=np.float64) / 2**63
    assert abs(seeds.mean() - 0.5) < 0.05 and seeds.min() < 0.02 and seeds.max() > 0.98


def test_generators_repeat_and_differ_by_purpose() -> None:
    draw = generator(3, "noise", 1).standard_normal(50)
    np.testing.assert_array_equal(draw, generator(3, "noise", 1).standard_normal(50))
    assert abs(np.corrcoef(draw, generator(3, "noise", 2).standard_normal(50))[0, 1]) < 0.5
    order = torch.randperm(50, generator=torch_generator(3, "noise", 1))
    assert torch.equal(order, torch.randperm(50, generator=torch_generator(3, "noise", 1)))
    assert not torch.equal(order, torch.randperm(50, generator=torch_generator(3, "noise", 2)))


def test_generators_leave_the_global_ones_alone() -> None:
    numpy_state, torch_state = np.random.get_state()[1].copy(), torch.get_rng_state()
    generator(0, "a").standard_normal(5)
    torch.randperm(5, generator=torch_generator(0, "a"))
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)
    assert torch.equal(torch.get_rng_state(), torch_state)


def test_torch_seeded_binds_the_global_generator_and_gives_it_back() -> None:
    before = torch.get_rng_state()
    with torch_seeded(1, "weights", 0):
        first = torch.rand(10)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    with torch_seeded(1, "weights", 0):
        assert torch.equal(torch.rand(10), first)
    with torch_seeded(1, "weights", 1):
        assert not torch.equal(torch.rand(10), first)


def test_torch_seeded_gives_the_stream_of_manual_seed_and_leaves_no_note() -> None:
    import torch.cuda

    noted = len(torch.cuda._queued_calls)
    with torch_seeded(1, "weights", 0):
        ours = torch.rand(10)
    assert len(torch.cuda._queued_calls) == noted
    assert torch.equal(ours, torch.rand(10, generator=torch_generator(1, "weights", 0)))


def test_torch_seeded_gives_the_generator_back_after_an_error() -> None:
    before = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="boom"), torch_seeded(1, "weights"):
        torch.rand(10)
        raise RuntimeError("boom")
    assert torch.equal(torch.get_rng_state(), before)


def test_globally_seeded_binds_both_generators_and_gives_them_back() -> None:
    def draw() -> tuple[float, float]:
        return random.random(), float(np.random.random())

    states = random.getstate(), np.random.get_state()[1].tobytes()  # type: ignore[union-attr]
    with pytest.raises(RuntimeError, match="boom"), globally_seeded(1, "sampling", 2):
        first = draw()
        raise RuntimeError("boom")
    assert (random.getstate(), np.random.get_state()[1].tobytes()) == states  # type: ignore[union-attr]
    with globally_seeded(1, "sampling", 2):
        assert draw() == first
    with globally_seeded(1, "sampling", 3):
        assert draw() != first


def test_attack_rngs_have_the_documented_purposes() -> None:
    for made, wanted in (
        (attack_rng(7, 1, 3, 5), generator(7, "attack", 1, 3, 5)),
        (collusion_rng(7, 0, 1, 3), generator(7, "collude", 1, 3)),
        (collusion_rng(7, 2, 1, 3), generator(7, "collude", 2, 1, 3)),
        (trigger_rng(7), generator(7, "trigger")),
    ):
        assert made.random() == wanted.random()
