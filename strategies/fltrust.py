"""Updates count as far as they point where the server's own training points."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fedrobust.federation import Defence, Updates, Vector, Verdict

__all__ = ["FLTrust"]

Floats = NDArray[np.float64]


class FLTrust(Defence):
    """Trusts an update by its cosine with one the server trains on images of its own (Cao et al., NDSS 2021).

    Algorithm
    ---------
    The server trains g0 from the global model on its root dataset, as the hospitals do on theirs. The trust
    score of g_i is ReLU(cos(g_i, g0)). The global model moves by sum_i TS_i |g0| / |g_i| g_i / sum_i TS_i; if
    no update is trusted it stays. The weight is the trust score, as all updates have one length when they are
    averaged; the score is 1 - cos. Hospitals without trust are flagged.

    Parameters
    ----------
    share : float
        Share of the server's validation part that serves as the root dataset, in (0, 1].

    Notes
    -----
    Breakdown point: any number of attackers, as far as the root dataset is like the hospitals' data. Cost:
    O(n d), one vector of length d, and the training of one hospital. It needs labelled images of the server's
    own, here a share of the validation part; the paper asks that they are drawn like the hospitals'. The
    global learning rate is 1.

    References
    ----------
    Cao, Fang, Liu and Gong, "FLTrust: Byzantine-robust federated learning via trust bootstrapping", NDSS
    2021, algorithm 2.
    """

    needs_server: ClassVar[bool] = True

    def __init__(self, share: Annotated[float, Field(gt=0, le=1)] = 0.5) -> None:
        """Keep the option."""
        self.server_share = share

    def combine(self, updates: Updates) -> tuple[Vector, Verdict]:
        """Return the global parameters moved by the trusted updates, each as long as the server's."""
        own = self.images().trained(updates.global_parameters, updates.global_buffers, updates.round)
        norms = updates.norms()
        length, inner = _against(own.parameters, updates)
        both = length * norms
        cosine = np.clip(np.divide(inner, both, out=np.zeros(len(norms)), where=both > 0), -1.0, 1.0)
        trust = np.maximum(cosine, 0.0)
        total = trust.sum()
        # Where the server's own training moves nothing there is no direction to compare with.
        flagged = (trust == 0) & (length > 0)
        why = [
            f"cosine {c:.2f} with the server's own update" if out else ""
            for c, out in zip(cosine, flagged, strict=True)
        ]
        verdict = Verdict(trust, 1.0 - cosine, flagged, why)
        if not total:
            return updates.global_parameters.copy(), verdict
        scale = np.divide(length, norms, out=np.zeros(len(norms)), where=norms > 0)
        return updates.combination(trust / total * scale), verdict


def _against(own: Vector, updates: Updates) -> tuple[float, Floats]:
    """Return the length of the server's update, and its inner products with the others', shape (n,)."""
    base = updates.global_parameters

    def work(part: slice) -> Floats:
        wide = own[part].astype(np.float64) - base[part]
        return np.concatenate([[np.dot(wide, wide)], np.dot(updates.block(part).astype(np.float64), wide)])

    square, *inner = np.sum(updates.by_part(work), axis=0)
    return float(np.sqrt(square)), np.array(inner)
