"""Partitions of the training images among hospitals, by flwr-datasets where classes or sites decide."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedrobust.data.patients import Patients, check_together
from fedrobust.data.records import Records
from fedrobust.data.split import whole_shares
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
    "dirichlet": "unequal class mixes, the more so the smaller alpha (0.5); min_size, or shares=[...], each",
    "site": "by the site each image comes from; with shares=[...], sites are cut to these sizes",
    "sizes": "shares=[0.5, 0.3, 0.2] of the images, one for each hospital, at random",
    "pathological": "k classes each (2)",
    "shards": "each class's images in pieces, per_hospital (2) of them each",
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
_OPTIONS: dict[str, tuple[str, ...]] = {
    "iid": (),
    "dirichlet": ("alpha", "min_size", "shares"),
    "site": ("shares",),
    "sizes": ("shares",),
    "pathological": ("k",),
    "shards": ("per_hospital",),
}


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
        Each hospital's positions, sorted; together they are index. All images of a patient are in one.

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
    if name == "site" and "site" in records.facts:
        advice = "hospitals; give each patient a name that no other hospital uses, or the images one hospital"
        check_together(records, index, records.facts["site"][index], advice)
    patients = Patients(records, np.sort(index))
    if hospitals > len(patients.leaders):
        empty = _numbers(range(len(patients.leaders), hospitals))
        unit = "image" if len(patients.leaders) == len(index) else "patient"
        raise UserError(
            f"{empty} would have no {unit} ({len(patients.leaders)} in all); ask for fewer hospitals"
        )
    parts = _dealt_out(patients, name, options, hospitals, seed, spec.text)
    return tuple(patients.all_images(part) for part in parts)


def _dealt_out(
    patients: Patients, name: str, options: Mapping[str, object], hospitals: int, seed: int, spec: str
) -> Parts:
    """Return each hospital's patients, by the positions of their first images, sorted."""
    records, index = patients.records, patients.leaders
    if name == "site" and "shares" not in options:
        return _by_site(records, index, hospitals)
    # The partitioners cut contiguous runs. A file's order often tells of site, patient or date, and those
    # must not slip into a partition that is about chance or about classes alone.
    order = generator(seed, "partition").permutation(len(index))
    shuffled, labels = index[order], records.labels[index[order]]
    if name == "iid":
        # What flwr-datasets' IidPartitioner does with a shuffled table, without two seconds of imports.
        return tuple(np.sort(part) for part in np.array_split(shuffled, hospitals))
    if name == "pathological":
        return _pathological(shuffled, labels, hospitals, _count(options, "k", 2, spec), seed)
    if name == "shards":
        return _shards(shuffled, labels, hospitals, _count(options, "per_hospital", 2, spec), seed)
    if name == "dirichlet" and "shares" not in options:
        return _dirichlet(shuffled, labels, hospitals, seed, spec, options)
    shares = _shares(options, hospitals, spec)
    if name == "dirichlet":
        return _dirichlet_of_sizes(shuffled, labels, shares, seed, spec, options)
    if name == "site":
        by_size = _sites_by_size(records, index)
        order = order[np.argsort(by_size[order], kind="stable")]
    return _cut(index[order], patients.images[order], shares)


def _dirichlet(
    index: NDArray[np.int64],
    labels: NDArray[np.int64],
    hospitals: int,
    seed: int,
    spec: str,
    options: Mapping[str, object],
) -> Parts:
    from flwr_datasets.partitioner import DirichletPartitioner  # late, as below: the import takes seconds

    alpha = _alpha(options, spec)
    least = options.get("min_size", max(1, min(10, len(index) // (2 * hospitals))))
    if isinstance(least, bool) or not isinstance(least, int) or least < 1:
        raise UserError(f"min_size is {least!r} in '{spec}', but must be a whole number from 1; change it")

    own_seed = derive(seed, "partition", "dirichlet")  # not the stream that shuffled the index

    def deal(min_size: int) -> Parts:
        dealer = DirichletPartitioner(
            hospitals, "key", alpha, min_size, self_balancing=False, shuffle=False, seed=own_seed
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


def _alpha(options: Mapping[str, object], spec: str) -> float:
    alpha = options.get("alpha", 0.5)
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 < alpha <= 1e6:
        raise UserError(f"alpha is {alpha!r} in '{spec}', but must be above 0 and at most 1e6; change it")
    return float(alpha)


def _dirichlet_of_sizes(
    index: NDArray[np.int64],
    labels: NDArray[np.int64],
    shares: NDArray[np.float64],
    seed: int,
    spec: str,
    options: Mapping[str, object],
) -> Parts:
    """Return parts of given sizes, each with a class mix of its own; patients count once."""
    from flwr_datasets.partitioner import InnerDirichletPartitioner

    if "min_size" in options:
        raise UserError(f"'{spec}' has both shares and min_size; the shares say how many each has")
    sizes = _no_empty(whole_shares(len(index), shares))
    own_seed = derive(seed, "partition", "dirichlet")
    dealer = InnerDirichletPartitioner(
        sizes.tolist(), "key", _alpha(options, spec), shuffle=False, seed=own_seed
    )
    return _dealt(dealer, index, labels)


def _cut(index: NDArray[np.int64], images: NDArray[np.int64], shares: NDArray[np.float64]) -> Parts:
    """Return consecutive runs of patients, with images as near to the shares as whole patients allow."""
    ends = np.cumsum(whole_shares(int(images.sum()), shares))[:-1]
    places = np.searchsorted(np.cumsum(images), ends, side="right")
    sizes = _no_empty(np.diff(np.concatenate([[0], places, [len(index)]])))
    return tuple(np.sort(part) for part in np.split(index, np.cumsum(sizes)[:-1]))


def _no_empty(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the sizes with one from the largest for each that is 0."""
    sizes = sizes.copy()
    for empty in np.flatnonzero(sizes == 0):
        sizes[sizes.argmax()] -= 1
        sizes[empty] = 1
    return sizes


def _shares(options: Mapping[str, object], hospitals: int, spec: str) -> NDArray[np.float64]:
    """Return each hospital's share of the images; their sum is 1."""
    given = options.get("shares", ())
    numbers = given if isinstance(given, list | tuple) else ()
    if not numbers or not all(type(one) in (int, float) and 0 < one < np.inf for one in numbers):
        raise UserError(f"'{spec}' needs the hospitals' shares as positive numbers: shares=[0.5, 0.3, 0.2]")
    if len(numbers) != hospitals:
        raise UserError(
            f"'{spec}' has {len(numbers)} shares for {hospitals} hospitals; give one for each, or set clients"
        )
    shares = np.array(numbers, np.float64)
    return np.asarray(shares / shares.sum())


def _count(options: Mapping[str, object], name: str, default: int, spec: str) -> int:
    value = options.get(name, default)
    if type(value) is not int or value < 1:
        raise UserError(f"{name} is {value!r} in '{spec}', but must be a whole number from 1; change it")
    return value


def _pathological(
    index: NDArray[np.int64], labels: NDArray[np.int64], hospitals: int, k: int, seed: int
) -> Parts:
    """Return parts with k classes each, in turn from a shuffled list, so that no class is left out.

    flwr-datasets' PathologicalPartitioner drops the images of a class that it assigns to nobody.
    """
    classes = np.unique(labels)
    least = -(-len(classes) // hospitals)
    if not least <= k <= len(classes):
        raise UserError(
            f"pathological(k={k}): {hospitals} hospitals with {k} classes each do not fit {len(classes)} "
            f"classes; give a k from {least} to {len(classes)}"
        )
    drawn = generator(seed, "partition", "pathological").permutation(classes)
    held: list[list[NDArray[np.int64]]] = [[] for _ in range(hospitals)]
    for place, label in enumerate(drawn):
        turns = np.arange(place, hospitals * k, len(classes))
        holders = np.unique(turns // k)
        for holder, block in zip(holders, np.array_split(index[labels == label], len(holders)), strict=True):
            held[holder].append(block)
    return _whole(held, f"pathological(k={k})")


def _shards(
    index: NDArray[np.int64], labels: NDArray[np.int64], hospitals: int, per_hospital: int, seed: int
) -> Parts:
    """Return parts of shards: the images in order of class, cut and dealt (McMahan et al., AISTATS 2017).

    As flwr-datasets' ShardPartitioner, which sorts a table of its own for it, without two seconds of imports.
    """
    pieces = np.array_split(index[np.argsort(labels, kind="stable")], hospitals * per_hospital)
    drawn = generator(seed, "partition", "shards").permutation(len(pieces)).reshape(hospitals, per_hospital)
    held = [[pieces[number] for number in row] for row in drawn]
    return _whole(held, f"shards(per_hospital={per_hospital})")


def _whole(held: list[list[NDArray[np.int64]]], spec: str) -> Parts:
    """Join each hospital's blocks; refuse one that would have no image."""
    parts = tuple(np.sort(np.concatenate(blocks)) for blocks in held)
    if empty := [number for number, part in enumerate(parts) if not len(part)]:
        raise UserError(f"{_numbers(empty)} would have no image under {spec}; ask for fewer hospitals")
    return parts


def _sites_by_size(records: Records, index: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rank of each image's site, the largest first."""
    sites = _sites(records, index)
    names, place, counts = np.unique(sites, return_inverse=True, return_counts=True)
    rank = np.empty(len(names), np.int64)
    rank[np.argsort(-counts, kind="stable")] = np.arange(len(names))
    return np.asarray(rank[place])


def _sites(records: Records, index: NDArray[np.int64]) -> NDArray[np.str_]:
    """Return the site of each image."""
    source = records.source or "the data"
    if "site" not in records.facts:
        raise UserError(f"{source}: the images have no sites; choose another partition than 'site'")
    sites = records.facts["site"][index]
    if unknown := int((sites == "").sum()):
        raise UserError(f"{source}: {unknown} training images have no site; add it or use another partition")
    return sites


def _by_site(records: Records, index: NDArray[np.int64], hospitals: int) -> Parts:
    from flwr_datasets.partitioner import GroupedNaturalIdPartitioner

    # By number, in the order of their names: a name may hold what the partitioner does not tell apart.
    names, sites = np.unique(_sites(records, index), return_inverse=True)
    source, count = records.source or "the data", len(names)
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
