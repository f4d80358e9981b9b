"""Which federations `benchmarks/generalisation.py` runs, and in which order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np

from fedrobust import Settings

OURS = "isolation-forest"

#: The default defence's constants were fixed on these data; all others are held out.
TUNED = ("medmnist:brain_mri4_28", "medmnist:pneumoniamnist")
HELD_OUT = (
    *("medmnist:breastmnist", "medmnist:chest_xray3_64", "medmnist:wbc5_64", "medmnist:covid_xray2_28"),
    "phantom(images=1200)",
)
DATA = (*TUNED, *HELD_OUT)
#: Here a flip to the class that looks most alike is the same as any other flip.
TWO_CLASSES = ("medmnist:pneumoniamnist", "medmnist:breastmnist", "medmnist:covid_xray2_28")
METHODS = (
    *(OURS, "fedavg", "centered-clipping", "geometric-median", "multi-krum", "zeno", "fltrust", "flame"),
    # The last one is FedAvg with the default defence's last part, to tell what the rest of it is worth.
    *("feddetect", "nnm | trimmed-mean", "fedavg | server-step"),
)
#: Run in more federations than the others: the best plain rules, which the default defence should be below
#: neither of, and what its last part is worth alone.
CLOSEST = (OURS, "fedavg", "centered-clipping", METHODS[-1])
NONE = "none"
#: Threats without a malicious hospital.
BENIGN = (NONE, "other-scanner", "single-class")
#: Each malicious hospital's attack; {honest} is the number of rounds that a sleeper stays honest.
ATTACKS = (
    *("label-flip", "label-flip(mode='look-alike')", "sign-flip", "sleeper(rounds={honest}) + sign-flip"),
    *("min-max", "ipm", "drift", "layer-flip"),
    *("label-flip + forge-loss", "label-flip + play-odd", "one-class-liar"),
    *("backdoor", "dba"),
)
PARTITIONS = ("iid", "dirichlet(alpha=1.0)", "dirichlet(alpha=0.3)")
MALICIOUS = (2, 3)
#: An underfit model and a trained one.
ROUNDS = (5, 25)
#: Nothing was ever tuned with these seeds.
SEEDS = (10, 11, 12)

#: Attackers who know the default defence's rule: see tests/adaptive/clients.
ADAPTIVE = (
    *("drift", "layer-flip", "label-flip + play-odd", "label-flip + odd-claims", "one-class-liar"),
    *("label-flip + framing", "backdoor + helpful-backdoor", "backdoor + diluted-backdoor"),
)
ADAPTIVE_DATA = ("medmnist:brain_mri4_28", "medmnist:chest_xray3_64")
ADAPTIVE_METHODS = (OURS, "centered-clipping")
ADAPTIVE_ROUNDS = 12
BACKDOORS = ("backdoor", "dba")
BACKDOOR_METHODS = (OURS, "fedavg")
#: The partitions of the two small parts.
SMALL_PARTITIONS = ("iid", "dirichlet(alpha=0.5)")
PARTS = ("grid", "adaptive", "backdoors")

#: Data, partition and seed without a draw that gives each hospital ten images.
TOO_SKEWED = ("medmnist:wbc5_64", PARTITIONS[2], 11)

#: For the order of the grid.
SHUFFLE = 2026


class Federation(NamedTuple):
    """What the methods are compared in: everything but the method."""

    data: str
    threat: str
    malicious: int
    partition: str
    rounds: int
    seed: int


class Key(NamedTuple):
    """One run."""

    part: str
    federation: Federation
    method: str


@dataclass(frozen=True)
class Selection:
    """Which runs are asked for; empty means all.

    Attributes
    ----------
    parts, data, methods, threats, partitions : collection of str
    rounds, seeds : collection of int
    """

    parts: Collection[str] = ()
    data: Collection[str] = ()
    methods: Collection[str] = ()
    threats: Collection[str] = ()
    partitions: Collection[str] = ()
    rounds: Collection[int] = ()
    seeds: Collection[int] = ()

    def takes(self, key: Key) -> bool:
        """Tell whether a run is asked for."""
        one = key.federation
        pairs = (
            (key.part, self.parts),
            (one.data, self.data),
            (key.method, self.methods),
            (one.threat, self.threats),
            (one.partition, self.partitions),
            (one.rounds, self.rounds),
            (one.seed, self.seeds),
        )
        return all(not asked or value in asked for value, asked in pairs)


def plan() -> Iterator[Key]:
    """Yield all runs: the two small parts, then the grid, the methods of a federation next to each other."""
    for federation in adaptive():
        for method in ADAPTIVE_METHODS:
            yield Key("adaptive", federation, method)
    for federation in backdoors():
        for method in BACKDOOR_METHODS:
            yield Key("backdoors", federation, method)
    for federation in grid():
        for method in METHODS:
            yield Key("grid", federation, method)


def adaptive() -> Iterator[Federation]:
    """Yield the federations of the adaptive attackers, and each without an attack."""
    for seed, data, partition, threat in product(SEEDS, ADAPTIVE_DATA, SMALL_PARTITIONS, (NONE, *ADAPTIVE)):
        yield Federation(data, threat, 0 if threat == NONE else 3, partition, ADAPTIVE_ROUNDS, seed)


def backdoors() -> Iterator[Federation]:
    """Yield the federations with backdoors on the tuned data, and each without an attack."""
    for seed, data, partition, threat in product(SEEDS, TUNED, SMALL_PARTITIONS, (NONE, *BACKDOORS)):
        yield Federation(data, threat, 0 if threat == NONE else 2, partition, ROUNDS[-1], seed)


def grid() -> list[Federation]:
    """Return the federations of the grid so that each first part of the list is a balanced sample.

    Every pair of data and threat has its first federation before any has its second, and so on. Of what is
    left for a pair, the federation comes next whose number of malicious hospitals, partition, rounds and seed
    have been least used for this pair; of several, by all pairs. So rounds alternate, and the partition and
    the seed change each time.
    """
    draw = np.random.default_rng(SHUFFLE)
    left = {
        (data, threat): [
            one
            for one in product((0,) if threat in BENIGN else MALICIOUS, PARTITIONS, ROUNDS, SEEDS)
            if (data, one[1], one[3]) != TOO_SKEWED
        ]
        for data in DATA
        for threat in (*BENIGN, *ATTACKS)
        if not ("look-alike" in threat and data in TWO_CLASSES)
    }
    pairs = list(left)
    used: Counter[tuple[object, ...]] = Counter()
    found = []
    while any(left.values()):
        for place in draw.permutation(len(pairs)):
            pair, rest = pairs[place], left[pairs[place]]
            if not rest:
                continue
            draw.shuffle(rest)
            chosen = min(rest, key=lambda one: (_uses(used, pair, one), _uses(used, (), one)))
            rest.remove(chosen)
            for whose in (pair, ()):
                used.update((*whose, *level) for level in enumerate(chosen))
            malicious, partition, rounds, seed = chosen
            found.append(Federation(pair[0], pair[1], malicious, partition, rounds, seed))
    return found


def _uses(used: Mapping[tuple[object, ...], int], whose: Sequence[str], levels: Sequence[object]) -> int:
    return sum(used[(*whose, *level)] for level in enumerate(levels))


def settings_of(key: Key, data_root: str | None, out: str) -> Settings:
    """Return the settings of a run."""
    one = key.federation
    attack = one.threat.format(honest=one.rounds // 2)
    base = Settings(
        clients=10,
        networks=1,
        local_epochs=1,
        image_size=28,
        data_root=data_root,
        out=out,
        data=one.data,
        partition=one.partition,
        rounds=one.rounds,
        # Every run has all its rounds.
        patience=one.rounds,
        seed=one.seed,
        strategy=key.method,
    )
    if one.threat == NONE:
        return base
    changes = (
        {"threat": (f"{attack}:1",)}
        if one.threat in BENIGN
        else {"malicious": one.malicious, "attack": attack}
    )
    return Settings(**{**base.model_dump(exclude_unset=True), **changes})
