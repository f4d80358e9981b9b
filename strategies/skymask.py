"""Masks that the server learns on its own images tell which parameters of which update help its model."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt

from fedrobust.aggregation.clusters import two_means
from fedrobust.federation import Defence, ServerModel, Update, Updates, Vector, Verdict, server_model

__all__ = ["SkyMask"]

Floats = NDArray[np.float64]

#: Every mask begins at sigmoid(1) for each parameter, and counts as 1 above sigmoid(0).
BEGIN = 1.0
#: The loss must fall by this much in every `PATIENCE` steps, or the masks are taken as they are.
LEAST_FALL, PATIENCE = 0.01, 10
#: What the mixture adds to each variance, as a share of the masks' largest: equal masks have none.
WIDTH = 1e-6
#: Fewer hospitals are not divided.
FEWEST = 3


class SkyMask(Defence):
    """Keeps the updates whose learnt masks are like that of the server's own update (Yan et al., ECCV 2024).

    Algorithm
    ---------
    The server trains an update of its own. Each model w_i, the server's among them, has a mask logit M_i for
    each parameter; the joint model is sum_i sigmoid(M_i) w_i / sum_i sigmoid(M_i), parameter by parameter.
    Its loss on the server's images is minimised in the masks: at most `epochs` steps, in which a logit moves
    against its derivative by `lr` times that, at most by 1. Masks above 1/2 count as 1; their two principal
    components are divided by a mixture of two Gaussians, and the hospitals in the group of the server's mask
    are averaged. The others are flagged. The score is the distance to the server's mask, as a share of the
    parameters.

    Parameters
    ----------
    epochs : int
        Steps, at most; 20 in the paper.
    lr : float
        The authors' code has 1e7 for small networks and 1e8 for a ResNet, with which nearly every step is
        clipped to 1; here that flagged six of eight honest hospitals of unlike data, 1e5 one.
    share : float
        Share of the server's validation part to learn on, in (0, 1].

    Notes
    -----
    Breakdown point: any number of attackers, as far as the server's images are like the hospitals'. Cost: a
    hospital's training, `epochs` forward and backward passes over the server's images, O(n d) for each, and
    one number for each parameter of each update. The masks learn by the chain rule from the joint model's
    gradient, so every parameter of any network has one. Each step takes all of the server's images; the paper
    has 100. The joint model has the running statistics of the server's own training; the authors' code gives
    every normalisation mean 0 and variance 1. Where the server's mask is alone in its group the model stays;
    where all masks are equal, or fewer than three hospitals replied, all are kept.

    References
    ----------
    Yan, Wang, Song, Hua, Ma, Hu, Haghighat and Guan, "SkyMask: attack-agnostic robust federated learning with
    fine-grained learnable masks", ECCV 2024, equations 1 to 4; the authors' code, KoalaYan/SkyMask.
    """

    needs_server: ClassVar[bool] = True

    def __init__(
        self,
        epochs: PositiveInt = 20,
        lr: PositiveFloat = 1e5,
        share: Annotated[float, Field(gt=0, le=1)] = 0.5,
    ) -> None:
        """Keep the options."""
        self.epochs, self.lr = epochs, lr
        self.server_share = share

    def preload(self) -> None:
        """Import the mixture."""
        import sklearn.mixture  # noqa: F401

    def weigh(self, updates: Updates) -> Verdict:
        """Return weight 1 for the group of the server's mask."""
        server = server_model(self)
        own = server.trained(updates.global_parameters, updates.global_buffers, updates.round)
        masks = self._masks(updates, own, server)
        both = _agreeing(updates, masks)
        ones = np.diagonal(both)
        score = (ones[:-1] + ones[-1] - 2 * both[:-1, -1]) / updates.dimension
        if len(updates) < FEWEST:
            return Verdict(np.ones(len(updates)), score)
        kept = _with_last(both)
        return Verdict(kept, score, ~kept)

    def _masks(self, updates: Updates, own: Update, server: ServerModel) -> Vector:
        """Return the logits after learning, shape (n + 1, d); the last row is the server's."""
        logits = np.full((len(updates) + 1, updates.dimension), BEGIN, np.float32)
        last = np.inf
        for epoch in range(self.epochs):
            joint = _joint(updates, own, logits)
            gradient = server.gradient(joint, own.buffers, server.images, server.labels)
            self._step(updates, own, logits, np.nan_to_num(gradient, posinf=0, neginf=0))
            if epoch % PATIENCE == 0:
                loss = float(server.losses(joint, own.buffers).mean())
                if last - loss < LEAST_FALL:
                    break
                last = loss
        return logits

    def _step(self, updates: Updates, own: Update, logits: Vector, gradient: Vector) -> None:
        """Move the logits by one step, in place."""

        def work(part: slice) -> None:
            models, share = _parts(updates, own, logits, part)
            total = share.sum(axis=0)
            joint = (share * models).sum(axis=0) / total
            slope = gradient[part] * (models - joint) / total * share * (1 - share)
            logits[:, part] -= np.clip(self.lr * slope, -1, 1).astype(np.float32)

        updates.by_part(work)


def _parts(updates: Updates, own: Update, logits: Vector, part: slice) -> tuple[Floats, Floats]:
    """Return some parameters of all models, and their masks, shape (n + 1, columns) each."""
    models = np.concatenate([updates.block(part, absolute=True), own.parameters[None, part]])
    return models.astype(np.float64), 1 / (1 + np.exp(-logits[:, part].astype(np.float64)))


def _joint(updates: Updates, own: Update, logits: Vector) -> Vector:
    """Return the joint model, shape (d,)."""
    joint = np.empty(updates.dimension, np.float32)

    def work(part: slice) -> None:
        models, share = _parts(updates, own, logits, part)
        joint[part] = (share * models).sum(axis=0) / share.sum(axis=0)

    updates.by_part(work)
    return joint


def _agreeing(updates: Updates, logits: Vector) -> Floats:
    """Return how many parameters two binary masks have in common, shape (n + 1, n + 1)."""

    def work(part: slice) -> Floats:
        bits = (logits[:, part] > 0).astype(np.float64)
        return np.asarray(np.dot(bits, bits.T), np.float64)

    return np.asarray(np.sum(updates.by_part(work), axis=0), np.float64)


def _with_last(inner: Floats) -> NDArray[np.bool_]:
    """Return who but the last is in its group, given the masks' inner products, shape (n,)."""
    from sklearn.mixture import GaussianMixture

    centre = np.eye(len(inner)) - 1 / len(inner)
    values, vectors = np.linalg.eigh(centre @ inner @ centre)
    if values[-1] <= 0.5:
        # Inner products are whole numbers: no two masks differ.
        return np.ones(len(inner) - 1, bool)
    # In units of the first component's spread.
    points = vectors[:, -2:] * np.sqrt(np.maximum(values[-2:], 0) / values[-1] * len(inner))
    second = two_means(points)
    means = np.stack([points[~second].mean(axis=0), points[second].mean(axis=0)])
    precision = np.linalg.inv(np.cov(points.T, bias=True) + WIDTH * np.eye(2))
    mixture = GaussianMixture(
        2, reg_covar=WIDTH, means_init=means, weights_init=[0.5, 0.5], precisions_init=[precision] * 2
    )
    group = mixture.set_params(random_state=0).fit_predict(points)
    return np.asarray(group[:-1] == group[-1])
