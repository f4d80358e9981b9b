from __future__ import annotations

import numpy as np
import pytest
from helpers import make_records

from clients.bit_flip import BitFlip
from clients.fiba import Fiba, _pattern
from fedrobust.battery.inputs import a_round, deltas
from fedrobust.errors import UserError
from fedrobust.plugins import instantiate


def bound(**options: float) -> Fiba:
    """Return an attack with a generator."""
    attack = Fiba(**options)  # type: ignore[arg-type]
    attack.bind(rng=np.random.default_rng(0))
    return attack


def test_fiba_mixes_amplitudes_in_the_block_and_keeps_phases() -> None:
    records = make_records(4, size=(20, 24), channels=3)
    found = Fiba(alpha=0.3, beta=0.1)._blended(records.images, 0)
    other = np.fft.fft2(_pattern((3, 20, 24), 0))
    for image, made in zip(records.images / 255, found, strict=True):
        for channel in range(3):
            spectrum = np.fft.fft2(image[channel])
            amplitude = np.abs(spectrum)
            for u in (-2, -1, 0, 1, 2):
                for v in (-2, -1, 0, 1, 2):
                    amplitude[u, v] = 0.7 * amplitude[u, v] + 0.3 * np.abs(other[channel, u, v])
            wanted = np.fft.ifft2(amplitude * np.exp(1j * np.angle(spectrum))).real
            np.testing.assert_allclose(made[channel] / 255, np.clip(wanted, 0, 1), atol=0.51 / 255)


def test_fiba_relabels_a_share_and_gives_as_many_another_trigger() -> None:
    records = make_records(40, size=(16, 16))
    made = bound(share=0.25, target=1).poison_records(records)
    changed = (made.images != records.images).any(axis=(1, 2, 3))
    assert changed.sum() == 10 + round(0.25 * 30)
    triggered = [
        n for n in range(40) if np.array_equal(made.images[n], bound()._blended(records.images[[n]], 0)[0])
    ]
    assert len(triggered) == 10
    assert (made.labels[triggered] == 1).all()
    others = np.setdiff1d(np.arange(40), triggered)
    assert np.array_equal(made.labels[others], records.labels[others])


def test_fiba_trigger_is_that_of_the_training() -> None:
    records = make_records(12, size=(16, 16))
    made = bound(target=2).trigger(records)
    assert made is not None
    assert (made.records.labels != 2).all()
    kept = records.images[records.labels != 2]
    assert np.array_equal(made.records.images, bound()._blended(kept, 0))


def test_fiba_refuses_a_block_without_frequencies() -> None:
    with pytest.raises(UserError, match="beta"):
        bound(beta=0.01).poison_records(make_records(4, size=(16, 16)))


def test_bit_flip_reverses_the_bits_of_a_share() -> None:
    (update,) = a_round(deltas(1))
    attack = BitFlip(share=0.5, bits=(32,))
    attack.bind(rng=np.random.default_rng(0))
    before, after = update.delta, attack.poison_update(update).delta
    flipped = after != before
    assert 0.3 < flipped.mean() < 0.7
    np.testing.assert_allclose(after[flipped], -before[flipped], atol=1e-6)


def test_bit_flip_of_the_exponent_stays_finite() -> None:
    (update,) = a_round(np.full_like(deltas(1), 1.5))
    attack = instantiate(BitFlip, {"share": 1.0, "bits": (22, 30, 31, 32)}, "bit-flip")
    attack.bind(rng=np.random.default_rng(0))
    assert np.isfinite(attack.poison_update(update).parameters).all()
    with pytest.raises(UserError, match=r"bits is \(0,\), but must be a list, each an integer in \[1, 32\]"):
        instantiate(BitFlip, {"bits": (0,)}, "bit-flip")
    with pytest.raises(UserError, match="bits are none"):
        instantiate(BitFlip, {"bits": ()}, "bit-flip")
