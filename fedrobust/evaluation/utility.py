"""What synthetic images are good for: classifiers of few real images, without and with synthetic ones added.

The study is that of Fig. 7 of Jin and Li (Medical Image Analysis, 2023), where FedDetect comes from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fedrobust.data.records import Records
from fedrobust.evaluation.judges import Judge
from fedrobust.seeding import generator

__all__ = ["REAL", "Use", "utility_of"]

#: Real images of each class that a classifier gets; each set holds the smaller ones. A set that is no larger
#: than the one before is left out.
REAL = (10, 25, 50, 100)

#: Images that a classifier sees in all its epochs, the same without and with synthetic ones.
_SEEN = 3000


@dataclass(frozen=True)
class Use:
    """Accuracy on test images, averaged over the classes, of a classifier of few real images.

    Attributes
    ----------
    real : int
        Real images of each class, or all of a class that has fewer.
    without, supplemented : float
        Without and with synthetic images added.
    """

    real: int
    without: float
    supplemented: float


def utility_of(
    make: Callable[[NDArray[np.int64]], NDArray[np.uint8] | None],
    train: Records,
    test: Records,
    added: int,
    seed: int,
    device: str = "cpu",
) -> tuple[Use, ...]:
    """Return what synthetic images add to few real ones; nothing where they are not finite.

    Parameters
    ----------
    make : callable
        From labels to as many synthetic images; None where a pixel is no finite number.
    train, test : Records
        Clean real images.
    added : int
        Synthetic images of each class.
    seed : int
    device : str
    """
    labels = np.repeat(np.arange(len(train.classes)), added)
    made = make(labels)
    if made is None:
        return ()
    order = generator(seed, "utility").permutation(len(train))
    found: list[Use] = []
    size = 0
    for count in REAL:
        chosen = [order[train.labels[order] == k][:count] for k in range(len(train.classes))]
        members = np.sort(np.concatenate(chosen))
        if len(members) == size:
            break
        few, size = train.take(members), len(members)
        both = replace(
            few,
            images=np.concatenate([few.images, made]),
            labels=np.concatenate([few.labels, labels]),
            facts={},
            parts=None,
        )
        judges = [Judge(each, seed, f"utility-{count}", device, _SEEN) for each in (few, both)]
        found.append(Use(count, *(judge.recognises(test.images, test.labels) for judge in judges)))
    return tuple(found)
