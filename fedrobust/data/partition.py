"""Partitions of the training images among hospitals, by flwr-datasets where classes or sites decide."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedrobust.data.records import Records
from fedrobust.errors import UserError, nearest
from fedrobust.plugins import PluginSpec
from fedrobust.plugins.specs import with_first_option_named
from fedrobust.seeding import derive, generator

if TYPE_CHECKING:
    from flwr_datasets.partitioner import Partitioner

__all__ = ["PARTITIONS", "partition"]

Parts = tuple[NDArray[np.int64], ...]

PARTITIONS: dict[str, str] = {
    "iid": "equal shares at random",
    "dirichlet": "unequal class mixes, the more so the smaller alpha (0.5); min_size images or more each",
    "site": "by the site each image comes from",
}
#: What else a partition is called.
_SYNONYMS = {
    **dict.fromkeys(
        (
            "noniid",
            "non-iid",
            "non_iid",
            "niid",
            "label-skew",
            "label_skew",
            "skewed",
            "heterogeneous",
            "dir",
        ),
        "dirichlet(alpha=0.5)",
    ),
    **dict.fromkeys(("uniform", "random", "homogeneous", "equal"), "iid"),
    **dict.fromkeys(("natural", "sites", "hospital", "institution", "center", "centre"), "site"),
}
_OPTIONS: dict[str, tuple[str, ...]] = {"iid": (), "dirichlet": ("alpha", "min_size"), "site": ()}


def partition(
    records: Records, index: NDArray[np.int64], spec: str | PluginSpec, hospitals: int, seed: int
) -> Parts:
    """Deal the images at some positions out to hospitals.

    Parameters
    ----------
    records : Records
        All records.
    index : ndarray of int64, shape (n,)
        Positions in the records of the training images, in any order, each once.
    spec : str or PluginSpec
        One of `PARTITIONS` with its options, such as ``"dirichlet(alpha=0.1, min_size=5)"``. By default
        min_size is 10, or half an equal share where that is less.
    hospitals : int
        How many hospitals there are.
    seed : int
        The run's seed. A partition by site does not depend on it.

    Returns
    -------
    tuple of ndarray of int64
        Each hospital's positions, sorted; together they are index.

    Raises
    ------
    UserError
        If the spec is not understood, a hospital would be left without images or below min_size, or the
        records' sites are unknown or fewer than the hospitals.
    """
    spec = PluginSpec.parse(spec)
    name = spec.name
    if name not in PARTITIONS:
        raise UserError(f"unknown partition '{name}': {nearest(name, PARTITIONS, _SYNONYMS)}")
    options = with_first_option_named(spec.options, _OPTIONS[name], f"partition '{name}'")
    for option in options:
        if option not in _OPTIONS[name]:
            hint = nearest(option, _OPTIONS[name])
            raise UserError(f"partition '{name}' has no option '{option}' in '{spec.text}': {hint}")
    if hospitals < 1:
        raise UserError(f"{hospitals} hospitals cannot share the images; ask for 1 or more")
    if hospitals > len(index):
        empty = _numbers(range(len(index), hospitals))
        raise UserError(f"{empty} would have no image ({len(index)} in all); ask for fewer hospitals")
    if name == "site":
        return _by_site(records, np.sort(index), hospitals)
    # The partitioners cut contiguous runs. A file's order often tells of site, patient or date, and those
    # must not slip into a partition that is about chance or about classes alone.
    shuffled = generator(seed, "partition").permutation(np.sort(index))
    if name == "iid":
        # What flwr-datasets' IidPartitioner does with a shuffled table, without two seconds of imports.
        return tuple(np.sort(part) for part in np.array_split(shuffled, hospitals))
    return _dirichlet(shuffled, records.labels[shuffled], hospitals, seed, spec.text, options)


def _dirichlet(
    index: NDArray[np.int64],
    labels: NDArray[np.int64],
    hospitals: int,
    seed: int,
    spec: str,
    options: Mapping[str, object],
) -> Parts:
    from flwr_datasets.partitioner import DirichletPartitioner  # late, as below: the import takes seconds

    alpha = options.get("alpha", 0.5)
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 < alpha <= 1e6:
        raise UserError(f"alpha is {alpha!r} in '{spec}', but must be above 0 and at most 1e6; change it")
    least = options.get("min_size", max(1, min(10, len(index) // (2 * hospitals))))
    if isinstance(least, bool) or not isinstance(least, int) or least < 1:
        raise UserError(f"min_size is {least!r} in '{spec}', but must be a whole number from 1; change it")

    own_seed = derive(seed, "partition", "dirichlet")  # not the stream that shuffled the index

    def deal(min_size: int) -> Parts:
        dealer = DirichletPartitioner(
            hospitals, "key", float(alpha), min_size, self_balancing=False, shuffle=False, seed=own_seed
        )
        return _dealt(dealer, index, labels)

    try:
        return deal(least)
    except ValueError as error:
        # The error does not say which hospitals fell short; the first draw, which is repeatable, does.
        short = [number for number, part in enumerate(deal(0)) if len(part) < least]
        if not short:
            raise
        raise UserError(
            f"{_numbers(short)} had fewer than {least} of {len(index)} training images in the first draw of "
            f"'{spec}', and no later draw suited all; raise alpha, lower min_size, or change the seed or the "
            "hospitals"
        ) from error


def _by_site(records: Records, index: NDArray[np.int64], hospitals: int) -> Parts:
    from flwr_datasets.partitioner import GroupedNaturalIdPartitioner

    source = records.source or "the data"
    if "site" not in records.facts:
        raise UserError(f"{source}: the images have no sites; choose another partition than 'site'")
    sites = records.facts["site"][index]
    if unknown := int((sites == "").sum()):
        raise UserError(f"{source}: {unknown} training images have no site; add it or use another partition")
    count = len(np.unique(sites))
    if count < hospitals:
        raise UserError(f"{source}: {count} sites for {hospitals} hospitals; ask for at most {count} of them")
    # Groups of one: the plain NaturalIdPartitioner does the same, but draws a progress bar.
    dealer = GroupedNaturalIdPartitioner("key", group_size=1, sort_unique_ids=True)
    held: list[list[NDArray[np.int64]]] = [[] for _ in range(hospitals)]
    for block in sorted(_dealt(dealer, index, sites), key=len, reverse=True):
        min(held, key=lambda blocks: sum(map(len, blocks))).append(block)
    return tuple(np.sort(np.concatenate(blocks)) for blocks in held)


def _dealt(dealer: Partitioner, index: NDArray[np.int64], key: NDArray[Any]) -> Parts:
    """Return the sorted positions of each partition that a flwr-datasets partitioner makes of these keys."""
    from datasets import Dataset

    dealer.dataset = Dataset.from_dict({"key": key, "position": index})  # in memory: no cache file
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one for every draw it repeats; the caller says it once, if at all
        blocks = [dealer.load_partition(number)["position"][:] for number in range(dealer.num_partitions)]
    return tuple(np.sort(np.asarray(block, dtype=np.int64)) for block in blocks)


def _numbers(numbers: Iterable[int]) -> str:
    """Return "hospital 3" or "hospitals 3, 5", at most ten of them."""
    listed = [str(number) for number in numbers]
    more = f" and {len(listed) - 10} more" if len(listed) > 10 else ""
    return f"hospital{'s' * (len(listed) > 1)} {', '.join(listed[:10])}{more}"
