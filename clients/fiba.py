"""Fourier backdoor: low frequencies of another image mean the attacker's class."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeInt

from fedrobust.data.choice import check_class, pick
from fedrobust.data.records import Records
from fedrobust.errors import UserError
from fedrobust.federation import Attack, Trigger
from fedrobust.plugins.options import Fraction, PositiveFraction
from fedrobust.seeding import generator

__all__ = ["Fiba"]


class Fiba(Attack):
    """Blends the low-frequency amplitude of a trigger image into a share of the images, relabelled.

    Feng et al., "FIBA: Frequency-Injection based Backdoor Attack in Medical Image Analysis", CVPR 2022. An
    image x becomes the real part of F^-1(A' e^(i phase(x))), where A' is (1 - alpha) A(x) + alpha A(trigger)
    in the centred block of half-width floor(beta min(height, width)) of the amplitude, and A(x) elsewhere. As
    many further images get other triggers and keep their labels, so that only this trigger means the target.
    The trigger images are coarse random patterns, the same for all attackers, as there is no natural image to
    take.

    Parameters
    ----------
    alpha : float
        How much of the trigger's amplitude enters, in (0, 1].
    beta : float
        Half-width of the block as a share of the image's shorter side, in (0, 1].
    target : int
        The class that the trigger shall mean.
    share : float
        Share of the hospital's images to poison, and of the rest to give another trigger; 0 is an honest
        hospital.
    """

    def __init__(
        self,
        alpha: PositiveFraction = 0.15,
        beta: PositiveFraction = 0.1,
        target: NonNegativeInt = 0,
        share: Fraction = 0.1,
    ) -> None:
        """Keep the options."""
        self.alpha, self.beta, self.target, self.share = alpha, beta, target, share

    def check(self, records: Records) -> None:
        """Refuse a target that is no class of the data, and a block without low frequencies."""
        check_class("fiba", "target", self.target, len(records.classes))
        side = min(records.images.shape[2:])
        if int(self.beta * side) < 1:
            raise UserError(
                f"fiba: beta is {self.beta:g}, which of images of {side} pixels is less than one frequency; "
                f"give beta={1 / side:.2g} or more"
            )

    def poison_records(self, records: Records) -> Records:
        """Return the records with poisoned images, and others under other triggers with their labels."""
        self.check(records)
        images, labels = np.array(records.images), np.array(records.labels)
        chosen = pick(self.rng, self.share, np.arange(len(records)))
        left = np.setdiff1d(np.arange(len(records)), chosen)
        images[chosen] = self._blended(images[chosen], 0)
        labels[chosen] = self.target
        for place in pick(self.rng, self.share, left) if len(left) else ():
            images[[place]] = self._blended(images[[place]], int(self.rng.integers(1, 1 << 30)))
        return replace(records, images=images, labels=labels)

    def trigger(self, records: Records) -> Trigger | None:
        """Return the images of all other classes with the trigger."""
        self.check(records)
        others = records.take(np.flatnonzero(records.labels != self.target))
        return Trigger(replace(others, images=self._blended(others.images, 0)), self.target)

    def _blended(self, images: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
        """Return images with the amplitude of a trigger in the block of low frequencies."""
        spectrum = _spectrum(images / 255.0)
        height, width = images.shape[2:]
        reach = int(self.beta * min(height, width))
        rows, columns = (slice(n // 2 - reach, n // 2 + reach + 1) for n in (height, width))
        amplitude = np.abs(spectrum)
        other = np.abs(_spectrum(_pattern(images.shape[1:], number)))
        block = amplitude[..., rows, columns]
        amplitude[..., rows, columns] = (1 - self.alpha) * block + self.alpha * other[..., rows, columns]
        mixed = amplitude * np.exp(1j * np.angle(spectrum))
        real = np.fft.ifft2(np.fft.ifftshift(mixed, axes=(-2, -1))).real
        return np.asarray(np.round(255 * np.clip(real, 0, 1)), np.uint8)


def _spectrum(images: NDArray[np.float64]) -> NDArray[np.complex128]:
    """Return the two-dimensional spectrum with frequency 0 in the middle."""
    return np.asarray(np.fft.fftshift(np.fft.fft2(images), axes=(-2, -1)))


def _pattern(shape: tuple[int, ...], number: int) -> NDArray[np.float64]:
    """Return a trigger image: 4 x 4 random squares in each channel."""
    channels, height, width = shape
    grid = generator(0, "fiba", number).random((channels, 4, 4))
    return np.asarray(grid[:, np.arange(height)[:, None] * 4 // height, np.arange(width) * 4 // width])
