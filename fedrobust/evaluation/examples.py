"""Examples of poisoned images beside their originals: the very images that malicious hospitals train on."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fedrobust.data.records import Records
from fedrobust.data.sources import FederationData
from fedrobust.federation import Client
from fedrobust.learners.factory import learner_of
from fedrobust.plugins import find
from fedrobust.scenario import Scenario

__all__ = ["Example", "poisoned_examples"]

#: How many images of each threat are shown.
_SHOWN = 4
#: The fact that relates a poisoned image to the original, even if the attack removes or adds images.
_PLACE = "place among the hospital's images"


@dataclass(frozen=True)
class Example:
    """One image before and after poisoning, and its class each time.

    Attributes
    ----------
    hospital : int
    attack : str
        As the settings write it.
    original, poisoned : ndarray of uint8, shape (C, H, W)
    before, after : str
        The classes' names.
    """

    hospital: int
    attack: str
    original: NDArray[np.uint8]
    poisoned: NDArray[np.uint8]
    before: str
    after: str

    @property
    def about(self) -> dict[str, int | str]:
        """Return everything except the images."""
        return {
            "hospital": self.hospital,
            "attack": self.attack,
            "before": self.before,
            "after": self.after,
        }


def poisoned_examples(
    scenario: Scenario, data: FederationData, avoided: Collection[int] = ()
) -> list[Example]:
    """Return up to four images of each threat that changes images or labels, from one malicious hospital.

    The hospital is built as its ClientApp builds it, so its attacks draw the same random numbers. The
    examples are an illustration only: if a plug-in fails here, the run continues with a warning.

    Parameters
    ----------
    scenario : Scenario
    data : FederationData
    avoided : collection of int
        Hospitals to leave out: those with data of their own, which the server does not know, and those that
        failed in every round.
    """
    malicious = set(scenario.malicious) - set(avoided)
    found: list[Example] = []
    for threat in scenario.threats:
        try:
            examples = (_of_hospital(scenario, data, n) for n in threat.hospitals if n in malicious)
            found += next((some for some in examples if some), [])
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a plug-in may fail in any way
            warnings.warn(
                f"no examples of images poisoned by '{threat.attacks.text}': {type(error).__name__}: {error}",
                UserWarning,
                stacklevel=2,
            )
    return found


def _of_hospital(scenario: Scenario, data: FederationData, number: int) -> list[Example]:
    threat = scenario.threat_of(number)
    attacks = scenario.attacks_of(number)
    if threat is None or not any(attack.transforms_records for attack in attacks):
        return []
    records = data.of_hospital(number)
    places = np.arange(len(records))
    # A copy: an attack may change images in place.
    given = replace(records.take(places), facts={**records.facts, _PLACE: places.astype(str)})
    kind = find("hospital", "clients", (Client,), "client")
    hospital = kind(number, given, learner_of(scenario.learner, scenario.data), attacks, scenario.seed)
    trained: Records = hospital.records
    pairs = list(_spread(_changed(records, trained), records.labels))[:_SHOWN]
    return [
        Example(
            number,
            threat.attacks.text,
            records.images[before],
            trained.images[after],
            records.classes[records.labels[before]],
            records.classes[trained.labels[after]],
        )
        for before, after in pairs
    ]


def _changed(records: Records, trained: Records) -> list[tuple[int, int]]:
    """Return each changed image's positions in the hospital's own records and in those that it trains on."""
    if _PLACE in trained.facts:
        places = trained.facts[_PLACE].astype(np.int64)
    elif len(trained) == len(records):
        places = np.arange(len(records))
    else:
        return []
    return [
        (int(before), after)
        for after, before in enumerate(places)
        if records.labels[before] != trained.labels[after]
        or not np.array_equal(records.images[before], trained.images[after])
    ]


def _spread(pairs: list[tuple[int, int]], labels: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Order the pairs so that the first ones cover as many classes as possible."""
    counted: dict[int, int] = {}
    order = []
    for pair in pairs:
        label = int(labels[pair[0]])
        counted[label] = counted.get(label, 0) + 1
        order.append((counted[label], label, pair))
    return (pair for _, _, pair in sorted(order))
