"""What a learner may be told besides, as texts."""

from __future__ import annotations

from pathlib import Path

import pytest
from federations import tiny

from fedrobust import UserError
from fedrobust.learners.choices import (
    SGD,
    Adam,
    Noise,
    Perturbation,
    Pruning,
    adversary_of,
    optimizer_of,
    pruning_of,
)
from fedrobust.scenario import Scenario
from fedrobust.settings import Settings


def test_texts_name_choices_with_their_options() -> None:
    assert optimizer_of("adam") == Adam()
    assert optimizer_of("sgd") == SGD(0.9) and optimizer_of("sgd(momentum=0)") == SGD(0.0)
    assert pruning_of("none", 10) is None and adversary_of("none") is None
    # The round after half of them.
    assert pruning_of("0.3", 10) == pruning_of("weights(0.3)", 11) == Pruning(0.3, 6)
    assert pruning_of("filters(ratio=0.25, start=1)", 2) == Pruning(0.25, 1, filters=True)
    assert adversary_of("pgd(eps=4, steps=5, norm=2)") == Perturbation(4.0, 5, norm=2)
    assert adversary_of("fgsm(6)") == Perturbation(6.0, 1, step=6.0, random_start=False)
    assert adversary_of("noise(std=0.2, share=0.5)") == Noise(0.2, 0.5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"optimizer": "sdg"}, "--optimizer 'sdg': there is no 'sdg'; did you mean 'sgd'?"),
        ({"optimizer": "sgd(momentum=1)"}, "--optimizer sgd: momentum is 1, but must be a number in [0, 1)"),
        ({"prune": "1.5"}, "--prune weights: ratio is 1.5, but must be a number in (0, 1)"),
        ({"prune": "channels(0.5)"}, "--prune 'channels(0.5)': there is no 'channels'"),
        ({"prune": "weights(0.5, start=3)"}, "give a start of at most 2"),
        ({"adversarial_training": "pgd(eps=-1)"}, "eps is -1, but must be a number in [0, 255]"),
        ({"adversarial_training": "deep"}, "--adversarial-training 'deep': there is no 'deep'"),
    ],
)
def test_what_does_not_fit_is_one_sentence(tmp_path: Path, changes: dict[str, str], words: str) -> None:
    with pytest.raises(UserError) as error:
        Scenario.of(tiny(tmp_path, **changes))
    assert words in str(error.value) and "\n" not in str(error.value)


def test_settings_take_a_share_to_prune_as_a_number_and_options_as_a_table() -> None:
    assert Settings(prune=0.5).prune == "0.5"  # type: ignore[arg-type]
    table = {"name": "pgd", "eps": 4, "steps": 3}
    assert Settings(adversarial_training=table).adversarial_training == "pgd(eps=4, steps=3)"  # type: ignore[arg-type]
