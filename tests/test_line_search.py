from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from federations import tiny
from helpers import make_records, make_updates

from clients.alie import Alie
from clients.ipm import Ipm
from fedrobust import run
from fedrobust.attacks.line_search import DefenceInUse, LineSearch, largest
from fedrobust.errors import UserError
from fedrobust.federation import Attack, Defence, Role, Update, Updates, Verdict

N, M = 11, 3
#: Numbers a user might give, within the range of the search.
FIXED = (0.02, 0.1, 0.3, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
RULES = (
    "fedavg",
    "median",
    "trimmed-mean(f=3)",
    "krum(f=3)",
    "nnm(f=3) | trimmed-mean(f=3)",
    "centered-clipping",
)


class Images(Defence):
    """Wants images of the server's own."""

    server_share = 0.5


class Remembers(Defence):
    """Returns the mean in the first round that it sees and nothing from then on."""

    def __init__(self) -> None:
        self.rounds = 0

    def weigh(self, updates: Updates) -> Verdict:
        self.rounds += 1
        return Verdict(np.full(len(updates), float(self.rounds == 1)))


def ready(attack: Attack, strategy: str = "", hospitals: int | None = N) -> Any:
    attack.bind(role=Role("test", 0, hospitals, 0, M, strategy))
    attack.bind(rng=np.random.default_rng(5))
    return attack


def federation(d: int = 300) -> tuple[tuple[Update, ...], tuple[Update, ...]]:
    """Return colluders and honest hospitals that agree in part, as trained ones do."""
    updates = make_updates(N, d, seed=3)
    common = np.random.default_rng(9).standard_normal(d)
    moved = [update.with_delta(common + update.delta) for update in updates]
    return tuple(moved[:M]), tuple(moved[M:])


def harm(sent: Any, honest: Any, strategy: str) -> float:
    """Return how far the defence's result is from the honest mean, by the definition."""
    result = DefenceInUse("test", strategy, N).aggregate([*honest, *sent])
    mean = np.mean([u.parameters.astype(np.float64) for u in honest], axis=0)
    return float(np.linalg.norm(result - mean))


def fixed(kind: Callable[..., Attack], value: float) -> Attack:
    return kind(value, knowledge="all")


@pytest.mark.parametrize("kind", [Ipm, Alie])
@pytest.mark.parametrize("strategy", RULES)
def test_line_search_does_more_harm_than_any_fixed_number(kind: Callable[..., Any], strategy: str) -> None:
    colluders, honest = federation()
    found = harm(ready(kind("optimal"), strategy).collude(colluders, honest), honest, strategy)
    others = {x: harm(fixed(kind, x).collude(colluders, honest), honest, strategy) for x in FIXED}
    assert found >= max(others.values()) * (1 - 1e-6), others
    # It is no matter of rounding: most fixed numbers fall short.
    assert sum(value < 0.999 * found for value in others.values()) >= 3


@pytest.mark.parametrize("kind", [Ipm, Alie])
def test_line_search_against_krum_the_forged_update_is_chosen(kind: Callable[..., Any]) -> None:
    colluders, honest = federation()
    sent = ready(kind("optimal"), "krum(f=3)").collude(colluders, honest)
    chosen = DefenceInUse("test", "krum(f=3)", N).aggregate([*honest, *sent])
    np.testing.assert_allclose(chosen, sent[0].parameters, rtol=0, atol=1e-6)


def test_line_search_against_a_mean_it_goes_to_the_limit() -> None:
    colluders, honest = federation()
    mean = np.mean([u.delta for u in honest], axis=0, dtype=np.float64)
    for options, epsilon in (({}, 10.0), ({"limit": 2.0}, 2.0)):
        sent = ready(Ipm("optimal", **options), "fedavg").collude(colluders, honest)
        np.testing.assert_allclose(sent[0].delta, -epsilon * mean, atol=1e-5)


def test_line_search_option_names_another_defence_and_a_median_asks_for_less_than_a_mean() -> None:
    colluders, honest = federation()
    there = ready(Ipm("optimal"), "krum(f=3)").collude(colluders, honest)
    named = ready(Ipm("optimal", against="krum(f=3)"), "fedavg").collude(colluders, honest)
    np.testing.assert_array_equal(there[0].parameters, named[0].parameters)
    in_use = ready(Ipm("optimal"), "fedavg").collude(colluders, honest)
    assert np.linalg.norm(named[0].delta) < 0.5 * np.linalg.norm(in_use[0].delta)


@pytest.mark.parametrize("strategy", ["dnc", "bucketing | median", "krum"])
def test_line_search_same_generator_gives_the_same_bits_and_inputs_stay(strategy: str) -> None:
    colluders, honest = federation(40_000)
    before = [u.parameters.copy() for u in (*colluders, *honest)]
    first, second = (ready(Alie("optimal"), strategy).collude(colluders, honest) for _ in range(2))
    backwards = ready(Alie("optimal"), strategy).collude(colluders, honest[::-1])
    for one, other, third in zip(first, second, backwards, strict=True):
        np.testing.assert_array_equal(one.parameters, other.parameters)
        np.testing.assert_array_equal(one.parameters, third.parameters)
    for update, kept in zip((*colluders, *honest), before, strict=True):
        np.testing.assert_array_equal(update.parameters, kept)
    assert [u.node for u in first] == [u.node for u in colluders]
    assert all(a.report is b.report for a, b in zip(first, colluders, strict=True))


def test_line_search_rule_is_tried_without_its_memory() -> None:
    colluders, honest = federation()
    rule = DefenceInUse("test", "test_line_search:Remembers", N)
    one, other = (rule.aggregate([*honest, *colluders]) for _ in range(2))
    np.testing.assert_array_equal(one, other)
    assert not np.array_equal(one, colluders[0].global_parameters)


def test_line_search_finds_a_peak_in_a_wide_range_with_few_evaluations() -> None:
    for peak in np.geomspace(0.012, 9.9, 40):
        asked: list[float] = []

        def hill(x: float, peak: float = peak, asked: list[float] = asked) -> float:
            asked.append(x)
            return -abs(np.log(x / peak))

        found = largest(hill, 10.0)
        assert abs(np.log(found / peak)) < np.log(1.06)
        assert len(asked) == len(set(asked)) <= 17
        assert min(asked) == pytest.approx(0.01) and max(asked) == pytest.approx(10)


def test_line_search_of_equal_harm_the_smallest_number_wins() -> None:
    assert largest(lambda x: 1.0, 10.0) == pytest.approx(0.01)
    # A plateau from 1 on: the search ends within a step of its edge.
    assert 1 <= largest(lambda x: min(x, 1.0), 10.0) < 1.06


def test_line_search_without_honest_replies_nothing_changes() -> None:
    colluders, _ = federation()
    for attack in (Ipm("optimal"), Alie("optimal")):
        assert list(ready(attack, "median").collude(colluders, [])) == list(colluders)


@pytest.mark.parametrize(
    ("strategy", "words"),
    [
        ("", "ipm: the defence is not known here; name it, such as against=median"),
        ("flwr.serverapp.strategy:FedAvg", "plain Flower strategy, which cannot be tried out; name a rule"),
        ("nnm | test_line_search:Images", "uses images of the server's own"),
        ("krun", "unknown strategy 'krun'"),
        ("krum(f=5)", "krum: f=5 does not fit 11 hospitals"),
    ],
)
def test_line_search_defence_that_cannot_be_tried_is_refused_before_anything_runs(
    strategy: str, words: str
) -> None:
    with pytest.raises(UserError, match=words) as caught:
        ready(Ipm("optimal"), strategy).check(make_records())
    assert "\n" not in str(caught.value)
    # Without a search the defence is not needed.
    ready(Ipm(0.5), strategy).check(make_records())


def test_line_search_unknown_number_of_hospitals_no_f_is_refused() -> None:
    ready(Ipm("optimal"), "krum(f=5)", hospitals=None).check(make_records())


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        (Ipm, {"epsilon": 0.5, "against": "krum"}, "ipm: against belongs to epsilon=optimal"),
        (Ipm, {"epsilon": 0.5, "limit": 3.0}, "ipm: limit belongs to epsilon=optimal"),
        (Ipm, {"epsilon": "optimal", "knowledge": "colluders"}, "use knowledge=all"),
        (Alie, {"z": "optimal", "knowledge": "colluders"}, "use knowledge=all"),
        (Alie, {"against": "krum"}, "alie: against belongs to z=optimal"),
    ],
)
def test_line_search_options_that_contradict_each_other_are_refused(
    kind: Callable[..., Any], options: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        kind(**options)


def test_line_search_knowledge_follows_from_the_search() -> None:
    assert (Alie().knowledge, Alie("optimal").knowledge, Ipm("optimal").knowledge) == (
        "colluders",
        "all",
        "all",
    )
    assert LineSearch.given("ipm", "epsilon", 0.5, None, None) is None


def test_line_search_in_a_run_the_attack_knows_the_strategy_of_the_settings(tmp_path: Path) -> None:
    attacked = {"clients": 5, "malicious": 1, "rounds": 1}
    models = []
    for place, against in enumerate(("", ', against="krum(f=1)"', ", against=fedavg")):
        attack = f"ipm(epsilon=optimal{against})"
        result = run(tiny(tmp_path / str(place), **attacked, strategy="krum(f=1)", attack=attack))
        models.append((result.folder / "model.safetensors").read_bytes())
    assert models[0] == models[1] != models[2]
    with pytest.raises(UserError, match="plain Flower strategy"):
        flower = "flwr.serverapp.strategy:FedMedian"
        run(tiny(tmp_path / "flower", **attacked, strategy=flower, attack="alie(z=optimal)"))
