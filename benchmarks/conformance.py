"""Where the papers, ByzFL and Flower agree, and where they differ, with a number for each.

Each number comes from random inputs that are drawn here with fixed seeds. ``python
benchmarks/conformance.py`` writes docs/conformance.md.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedMedian, FedTrimmedAvg, Strategy, multikrum
from flwr.serverapp.strategy import bulyan as flower_bulyan

from benchmarks.conformance_attacks import attack_rows
from benchmarks.conformance_newest import newest_rows
from benchmarks.conformance_server import server_rows
from benchmarks.pages import prose, row, table_head
from fedrobust.engines.local import LocalGrid
from fedrobust.federation import ClientMetrics, Update, Updates
from fedrobust.learners.backbones import torchvision_models
from strategies.arc import ARC
from strategies.bulyan import Bulyan
from strategies.centered_clipping import CenteredClipping
from strategies.clipping import Clipping
from strategies.dos import _copod
from strategies.geometric_median import GeometricMedian
from strategies.krum import Krum
from strategies.mda import MDA
from strategies.meamed import Meamed
from strategies.median import Median
from strategies.monna import MoNNA
from strategies.multi_krum import MultiKrum
from strategies.nnm import NNM
from strategies.trimmed_mean import TrimmedMean

Floats = np.ndarray[Any, Any]
#: A row of a table.
Row = tuple[str, ...]


def draw(seed: int, n: int = 10, d: int = 200) -> Floats:
    """Return n updates of different scales, shape (n, d), float32."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((n, d)) * rng.uniform(0.5, 1.5, (n, 1))).astype(np.float32)


def updates(x: Floats, base: Floats | None = None) -> Updates:
    """Return updates with these rows as differences from a global model, zero unless given."""
    start = np.zeros(x.shape[1], np.float32) if base is None else base
    return Updates([Update(node, start + row, ClientMetrics(10), start) for node, row in enumerate(x)])


def records(x: Floats, **more: Floats) -> list[RecordDict]:
    """Return rows as replies of Flower clients; each further array has one number for each client."""
    return [
        RecordDict(
            {
                "arrays": ArrayRecord(
                    {"w": Array(row), **{k: Array(np.asarray(v[node])) for k, v in more.items()}}
                )
            }
        )
        for node, row in enumerate(x)
    ]


def flower_result(strategy: Strategy, x: Floats) -> Floats:
    """Return the result of one round of a Flower strategy with clients that reply with these rows."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        row = x[int(context.node_config["partition-id"])]
        metrics = MetricRecord({"num-examples": 10})
        return Message(
            RecordDict({"arrays": ArrayRecord({"w": Array(row)}), "metrics": metrics}), reply_to=message
        )

    grid = LocalGrid(app, len(x))
    start = ArrayRecord({"w": Array(np.zeros(x.shape[1], np.float32))})
    messages = strategy.configure_train(1, start, ConfigRecord(), grid)
    fresh, _ = strategy.aggregate_train(1, grid.send_and_receive(messages))
    assert fresh is not None
    return np.asarray(fresh["w"].numpy())


def flower_choice(x: Floats, f: int, m: int = 1, **more: Floats) -> set[int]:
    """Return which clients Flower's Krum or Multi-Krum keeps."""
    contents = records(x, **more)
    kept = multikrum.select_multikrum(contents, f, m)
    return {place for place, one in enumerate(contents) if any(one is other for other in kept)}


def byzfl_module() -> Any:
    """Return ByzFL."""
    torchvision_models()
    import byzfl

    return byzfl


def largest(pairs: Callable[[int], tuple[Floats, Floats]], seeds: int = 20) -> str:
    """Return the largest absolute difference over seeds."""
    found = max(float(np.abs(np.subtract(*pairs(seed))).max()) for seed in range(seeds))
    return f"{found:.1e}"


def agreements() -> list[Row]:
    """Return the rules that agree with ByzFL or Flower, and the largest difference of any parameter."""
    b = byzfl_module()

    def ours(rule: Any, x: Floats) -> Floats:
        return np.asarray(rule.combine(updates(x))[0])

    def mixed(step: Any, x: Floats) -> Floats:
        return np.stack([u.parameters for u in step.transform(updates(x))])

    near: list[tuple[str, str, Callable[[int], tuple[Floats, Floats]]]] = [
        ("median", "ByzFL `Median`", lambda s: (ours(Median(), draw(s)), b.Median()(draw(s)))),
        (
            "median",
            "Flower `FedMedian`",
            lambda s: (ours(Median(), draw(s)), flower_result(FedMedian(fraction_evaluate=0.0), draw(s))),
        ),
        (
            "trimmed-mean(f=2)",
            "ByzFL `TrMean(2)`",
            lambda s: (ours(TrimmedMean(f=2), draw(s)), b.TrMean(2)(draw(s))),
        ),
        (
            "trimmed-mean(f=2)",
            "Flower `FedTrimmedAvg(beta=0.2)`",
            lambda s: (
                ours(TrimmedMean(f=2), draw(s)),
                flower_result(FedTrimmedAvg(beta=0.2, fraction_evaluate=0.0), draw(s)),
            ),
        ),
        ("nnm(f=2)", "ByzFL `NNM(2)`", lambda s: (mixed(NNM(f=2), draw(s)), b.NNM(2)(draw(s)))),
        (
            "clipping(c=9.0)",
            "ByzFL `Clipping(9.0)`",
            lambda s: (mixed(Clipping(c=9.0), draw(s)), b.Clipping(9.0)(draw(s))),
        ),
        ("arc(f=2)", "ByzFL `ARC(2)`", lambda s: (mixed(ARC(f=2), draw(s)), b.ARC(2)(draw(s)))),
        (
            "centered-clipping(tau=9.0, iterations=3)",
            "ByzFL `CenteredClipping(L=3, tau=9.0)`, first round",
            lambda s: (
                ours(CenteredClipping(tau=9.0, iterations=3), draw(s)),
                b.CenteredClipping(L=3, tau=9.0)(draw(s)),
            ),
        ),
        (
            "geometric-median",
            "ByzFL `GeometricMedian(nu=1e-6, T=300)`",
            lambda s: (ours(GeometricMedian(), draw(s)), b.GeometricMedian(nu=1e-6, T=300)(draw(s))),
        ),
        ("mda(f=2)", "ByzFL `MDA(2)`", lambda s: (ours(MDA(f=2), draw(s)), b.MDA(2)(draw(s)))),
        ("monna(f=2)", "ByzFL `MoNNA(2)`", lambda s: (ours(MoNNA(f=2), draw(s)), b.MoNNA(2)(draw(s)))),
        ("meamed(f=2)", "ByzFL `Meamed(2)`", lambda s: (ours(Meamed(f=2), draw(s)), b.Meamed(2)(draw(s)))),
    ]
    return [(f"`{name}`", other, largest(pair)) for name, other, pair in near]


def share(differs: Callable[[Floats], bool], seeds: int = 200) -> str:
    """Return the share of random inputs for which two rules differ."""
    return f"{100 * np.mean([differs(draw(seed)) for seed in range(seeds)]):.0f} %"


def chosen(rule: Any, x: Floats) -> set[int]:
    """Return which clients a rule of ours keeps."""
    return set(np.flatnonzero(np.asarray(rule.combine(updates(x))[1].weight)).tolist())


def krum_rows() -> list[Row]:
    """Return the disagreements around Krum's choice."""
    b = byzfl_module()

    def byzfl_krum(x: Floats) -> set[int]:
        found = b.Krum(2)(x)
        return {int(np.flatnonzero((x == found).all(axis=1))[0])}

    def byzfl_multi(x: Floats) -> bool:
        return not np.allclose(MultiKrum(f=2).combine(updates(x))[0], b.MultiKrum(2)(x), atol=1e-5)

    byzfl_differs = share(lambda x: byzfl_krum(x) != chosen(Krum(f=2), x))
    flower_differs = share(lambda x: flower_choice(x, 2) != chosen(Krum(f=2), x))
    flower_multi_differs = share(lambda x: flower_choice(x, 2, 8) != chosen(MultiKrum(f=2), x))
    x = draw(0)
    weights = np.array([1, 1, 1, 1, 1, 1, 1, 93])
    kept = x[sorted(chosen(MultiKrum(f=2), x))].astype(np.float64)
    moved = np.linalg.norm(np.average(kept, axis=0, weights=weights) - kept.mean(axis=0))
    return [
        (
            "Krum's neighbours",
            "paper, Flower, fedrobust: n - f - 2; ByzFL: n - f - 1",
            f"another update is chosen in {byzfl_differs} of 200 inputs (Flower: {flower_differs})",
        ),
        (
            "Multi-Krum's neighbours",
            "as Krum's; ByzFL and fedrobust keep n - f, Flower a number that the user gives",
            (
                f"another mean than ByzFL's in {share(byzfl_multi)} of 200 inputs "
                f"(Flower with 8 to keep: {flower_multi_differs})"
            ),
        ),
        (
            "Multi-Krum's weights",
            "fedrobust, ByzFL: equal; Flower: the number of images that each client reports",
            (
                f"one of the 8 kept reports 93 % of the images: the result moves by {moved:.1f}, "
                f"{moved / np.linalg.norm(kept.mean(axis=0)):.1f} times the mean's length"
            ),
        ),
    ]


def distance_rows() -> list[Row]:
    """Return the disagreements around the distances that Krum uses."""
    x = draw(0)
    counters = np.array([100] * 9 + [500])
    plain, counted = flower_choice(x, 2, 8), flower_choice(x, 2, 8, num_batches_tracked=counters)
    far = 100 * np.random.default_rng(1).standard_normal(200).astype(np.float32)
    small = 0.01 * draw(2)
    gram = multikrum.compute_distances([ArrayRecord({"w": Array(row)}) for row in far + small])
    true = ((small[:, None].astype(np.float64) - small[None]) ** 2).sum(-1)
    off = np.abs(gram - true)[np.triu_indices(10, 1)] / true[np.triu_indices(10, 1)]
    return [
        (
            "Arrays in a distance",
            (
                "fedrobust: trainable parameters; Flower: every array of the reply, including "
                "`num_batches_tracked`"
            ),
            (
                f"a client that trained 5 times as many batches: Flower keeps {len(plain - counted)} "
                f"other(s) of 8 than without the counter, and {'drops' if 9 not in counted else 'keeps'} "
                f"that client ({'kept' if 9 in plain else 'dropped'} before)"
            ),
        ),
        (
            "Precision of distances",
            (
                "fedrobust: differences from the global model, float64 sums; Flower: complete weights, in "
                "their own float32"
            ),
            (
                f"weights of length {np.linalg.norm(far):.0f}, updates of length "
                f"{np.linalg.norm(small[0]):.2f}: Flower's squared distances are off by up to "
                f"{100 * off.max():.0f} % (the error depends on the processor)"
            ),
        ),
    ]


def bulyan_rows() -> list[Row]:
    """Return the disagreements around Bulyan."""
    x = draw(0, n=11)
    closest = flower_bulyan.aggregate_n_closest_weights
    order = sorted(flower_choice(x, 2, 7))
    one_shot = closest([np.median(x[order], axis=0)], [[row] for row in x[order]], 3)[0]
    ours = Bulyan(f=2).combine(updates(x))[0]
    even = draw(0)
    element, verdict = Bulyan(f=1).combine(updates(even))
    kept = even[np.asarray(verdict.weight) > 0]
    between = closest([np.median(kept, axis=0)], [[row] for row in kept], 6)[0]
    differs = share(lambda v: flower_choice(v, 1, 8) != chosen(Bulyan(f=1), v))
    return [
        (
            "Bulyan's selection",
            (
                "paper, fedrobust: Krum n - 2f times on the remaining updates; Flower: the n - 2f best "
                "scores at once"
            ),
            (
                f"others are selected in {differs} of 200 inputs; n = 11, f = 2, seed 0: the results differ "
                f"by {np.linalg.norm(ours - one_shot) / np.linalg.norm(ours):.2f} of their length"
            ),
        ),
        (
            "Bulyan's median",
            (
                "paper, fedrobust: one of the chosen values, the lower of the middle two for an even "
                "number; Flower: their mean"
            ),
            (
                f"n = 10, f = 1, seed 0: the results differ by "
                f"{np.linalg.norm(element - between) / np.linalg.norm(element):.2f} of their length"
            ),
        ),
    ]


def averaging_rows() -> list[Row]:
    """Return the disagreements around rules that average or clip."""
    b = byzfl_module()
    small = (0.0005 * draw(3)).astype(np.float32)
    small[:3] += np.float32(0.003)
    honest = small[3:].mean(axis=0)

    def off(point: Floats) -> float:
        return float(np.linalg.norm(point - honest) / np.linalg.norm(small[:3].mean(axis=0) - honest))

    ours, default = off(GeometricMedian().combine(updates(small))[0]), off(b.GeometricMedian()(small))
    try:
        b.CenteredClipping(m=np.zeros(3))
        start = "accepted"
    except TypeError as error:
        start = f"`TypeError: {error}`"
    rows = draw(4)
    kept = rows.copy()
    b.Clipping(1.0)(rows)
    cut = sum(int((29 / 100) * n) != 29 * n // 100 for n in range(1, 1001))
    return [
        (
            "Geometric median",
            (
                "paper: 3 steps from the mean, smoothing 1e-6; fedrobust: until it converges; ByzFL's "
                "default: 3 steps from zero, smoothing 0.1"
            ),
            (
                f"updates of length 0.007, 3 of 10 far off (0.04): the result lies {ours:.2f} of the way "
                f"from the honest mean to the attackers', ByzFL's {default:.2f}; the plain mean 0.30"
            ),
        ),
        (
            "Centered clipping's start",
            (
                "paper, fedrobust: the previous aggregate, which can be given; ByzFL's check of `m` refuses "
                "every array"
            ),
            start,
        ),
        (
            "Inputs",
            "fedrobust: never changed; ByzFL's `Clipping` and `ARC` clip a NumPy input in place",
            f"after `Clipping(1.0)(x)`, x itself has changed by up to {np.abs(rows - kept).max():.2f}",
        ),
        (
            "Trimmed mean's cut",
            "fedrobust, ByzFL: f values on each side; Flower: int(beta n) in floating point",
            f"beta = 0.29: another count than floor(29 n / 100) for {cut} of n = 1 to 1000",
        ),
    ]


def other_rows() -> list[Row]:
    """Return the disagreements around FLAME, DOS and bucketing."""
    b = byzfl_module()
    base = np.random.default_rng(5).standard_normal(5000).astype(np.float32)
    steps = 0.01 * draw(6, d=5000)

    def angles(v: Floats) -> float:
        v = v.astype(np.float64)
        lengths = np.linalg.norm(v, axis=1)
        return float((1 - v @ v.T / np.outer(lengths, lengths)).max())

    return [
        (
            "FLAME's angles",
            (
                "algorithm 1, line 6, compares complete models; fedrobust compares differences from the "
                "global model"
            ),
            (
                "updates a hundredth of the model: the largest cosine distance is "
                f"{angles(base + steps):.1e} between models, {angles(steps):.2f} between differences"
            ),
        ),
        (
            "COPOD in DOS",
            (
                "COPOD's paper takes the largest of three sums over dimensions; pyod, which DOS's authors "
                "ran, and fedrobust sum the larger of two terms in each dimension"
            ),
            f"another hospital has the highest score in {share(_copod_differs)} of 200 inputs",
        ),
        (
            "Bucketing's permutation",
            "fedrobust: bound to seed and round; ByzFL: the global generator",
            (
                "two calls of ByzFL's `Bucketing(2)` on one input differ by up to "
                f"{np.abs(b.Bucketing(2)(draw(0)) - b.Bucketing(2)(draw(0))).max():.1f}"
            ),
        ),
    ]


def _copod_differs(x: Floats) -> bool:
    """Return whether COPOD's paper gives another hospital the highest score than pyod's formula."""
    points = np.linalg.norm(x[:, None] - x[None], axis=-1)
    left = -np.log((points[None] <= points[:, None]).mean(axis=1))
    right = -np.log((points[None] >= points[:, None]).mean(axis=1))
    skewed = np.where(((points - points.mean(axis=0)) ** 3).mean(axis=0) < 0, left, right)
    paper = np.max([left.sum(axis=1), right.sum(axis=1), skewed.sum(axis=1)], axis=0)
    return bool(np.argmax(paper) != np.argmax(_copod(points)))


def page() -> str:
    """Return docs/conformance.md."""
    np.random.seed(0)
    about = (
        "Written by `python benchmarks/conformance.py` with ByzFL 0.0.11 and Flower 1.41. Inputs are random "
        "with fixed seeds: n = 10 updates of 200 parameters and of different scales, f = 2, unless stated. "
        "Words: [glossary.md](glossary.md)."
    )
    lines = [
        "# Where papers, ByzFL and Flower agree, and where they differ",
        "",
        *prose(about),
        "",
        "## Agreement",
        "",
        "The largest difference of any parameter over 20 inputs, in float32.",
        "",
        *table_head(["fedrobust", "other", "largest difference"]),
        *map(row, agreements()),
        "",
        "## Disagreement",
        "",
        *table_head(["what", "definitions", "the number that shows it"]),
    ]
    for rows in (krum_rows, distance_rows, bulyan_rows, averaging_rows, other_rows):
        lines += map(row, rows())
    lines += map(row, newest_rows(byzfl_module(), draw, updates))
    lines += map(row, server_rows())
    lines += map(row, attack_rows(draw))
    return "\n".join([*lines, ""])


def main() -> None:
    """Write the page."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        text = page()
    Path("docs/conformance.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
