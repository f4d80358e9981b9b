"""The server teaches the model random labels of foreign images, and sees which updates remember them."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from fedrobust.aggregation.passes import passes
from fedrobust.federation import Defence, Model, ServerModel, Updates, Vector, Verdict, server_model
from fedrobust.plugins.options import PositiveFraction
from fedrobust.seeding import generator

__all__ = ["BackdoorIndicator"]

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]

#: A foreign image is a grid of so many cells a side, each of one random colour.
CELLS = 4


class BackdoorIndicator(Defence):
    """Teaches a task on foreign images and flags who remembers it (Li and Dai, USENIX Security 2024).

    Algorithm
    ---------
    Before a round the server trains the global model w0 on foreign images with random labels, by gradient
    descent on CE(w) + mu / 2 |w - w0|, and sends the result. Honest training forgets the task; training that
    plants a backdoor of a class keeps what of the task has the same class. A hospital whose model still gives
    a share of `threshold` or more of some label's foreign images that label is flagged and left out. The
    score is the largest share.

    Parameters
    ----------
    images : int
        Foreign images; 800 in the paper.
    epochs : int
        Passes over them; 200 in the paper.
    lr : float
        Learning rate; 0.005 in the paper.
    batch : int
        Images of a step.
    mu : float
        Pull back to the global model.
    threshold : float
        Share of one label's images that gives a hospital away, in (0, 1].
    share : float
        Share of the server's validation part that it is given, in (0, 1]; only their size counts.

    Notes
    -----
    Cost: in each round `epochs` passes over the foreign images, forward and backward, and n evaluations of
    them. The defaults bound it: a small network learns 48 images in 60 passes, where the paper's 800 in 200
    take 55 times as long. Deviations: the paper takes images of another data set, this rule draws coarse
    mosaics, again in each round, with their labels. Gradients are taken with the running statistics of the
    round's model, and so are the hospitals' answers: the task leaves no trace in the statistics, and forged
    ones do not count. The pull is that of the authors' code, where the length is not squared. Where all are
    flagged, the model from before the task stays. Beware: a network that forgets the task but gives most
    foreign images one label is flagged though honest. On brain_mri4_28, with four classes, that is the rule:
    after one local epoch honest models gave one label 96 to 100 % of its foreign images, backdoored ones 63
    to 100 %.

    References
    ----------
    Li and Dai, "BackdoorIndicator: leveraging OOD data for proactive backdoor detection in federated
    learning", USENIX Security 2024, algorithms 1 and 2.
    """

    needs_server: ClassVar[bool] = True

    def __init__(
        self,
        images: PositiveInt = 48,
        epochs: PositiveInt = 60,
        lr: PositiveFloat = 0.05,
        batch: PositiveInt = 32,
        mu: NonNegativeFloat = 0.4,
        threshold: PositiveFraction = 0.95,
        share: PositiveFraction = 0.1,
    ) -> None:
        """Keep the options."""
        self.foreign, self.epochs, self.lr, self.batch, self.mu = images, epochs, lr, batch, mu
        self.threshold = threshold
        self.server_share = share
        self._before: Vector | None = None

    def before_round(self, model: Model) -> Model:
        """Return the model that has learnt the task."""
        server = server_model(self)
        images, labels = self._task(server, model.seed, model.round)
        self._before = model.parameters
        start = model.parameters.astype(np.float64)
        parameters = start.copy()
        purpose = "backdoor-indicator passes"
        batches = passes(len(labels), self.batch, self.epochs, purpose, model.seed, model.round)
        for _, batch in batches:
            narrow = parameters.astype(np.float32)
            gradient = server.gradient(narrow, model.buffers, images[batch], labels[batch])
            away = parameters - start
            length = float(np.linalg.norm(away))
            pull = self.mu / 2 * away / length if length else 0.0
            parameters -= self.lr * (gradient + pull)
        return replace(model, parameters=parameters.astype(np.float32))

    def weigh(self, updates: Updates) -> Verdict:
        """Return weight 1 for the hospitals that forgot the task."""
        server = server_model(self)
        images, labels = self._task(server, updates.seed, updates.round)
        kept = np.array(
            [
                _most_kept(server.probabilities(update.parameters, updates.global_buffers, images), labels)
                for update in updates
            ]
        )
        flagged = kept >= self.threshold
        why = [
            f"keeps {share:.0%} of a label of the indicator" if out else ""
            for share, out in zip(kept, flagged, strict=True)
        ]
        return Verdict(~flagged, kept, flagged, why)

    def combine(self, updates: Updates) -> tuple[Vector, Verdict]:
        """Return the mean of those that forgot the task; without any, the model from before it."""
        parameters, verdict = super().combine(updates)
        before, self._before = self._before, None
        if before is not None and not np.any(verdict.weight):
            return before.copy(), verdict
        return parameters, verdict

    def _task(self, server: ServerModel, seed: int, round: int) -> tuple[Images, Labels]:
        """Return this round's foreign images and their labels, as many of each class."""
        draw = generator(seed, "backdoor-indicator", round)
        channels, height, width = server.images.shape[1:]
        cells = draw.integers(0, 256, (self.foreign, channels, CELLS, CELLS), np.uint8)
        down, right = (np.arange(side) * CELLS // side for side in (height, width))
        labels = draw.permutation(np.arange(self.foreign) % server.classes)
        return cells[:, :, down][..., right], labels


def _most_kept(probabilities: NDArray[np.float64], labels: Labels) -> float:
    """Return the largest share, over the labels, of a label's images that are given it."""
    answers = probabilities.argmax(axis=1)
    return float(max((answers[labels == k] == k).mean() for k in np.unique(labels)))
