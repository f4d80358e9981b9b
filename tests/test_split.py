from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedrobust.data.medmnist import load
from fedrobust.data.records import Records
from fedrobust.data.split import Split, official, pooled
from fedrobust.errors import UserError


def make(counts: list[int], parts: list[str] | None = None) -> Records:
    """Return records with so many images of each class, the classes mixed."""
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(len(counts)), counts))
    return Records(
        images=np.zeros((len(labels), 1, 2, 2), dtype=np.uint8),
        labels=labels.astype(np.int64),
        classes=tuple(f"class {number}" for number in range(len(counts))),
        parts=None if parts is None else np.array(parts),
        source="made",
    )


def table(records: Records, split: Split) -> list[list[int]]:
    """Return how many images of each class (rows) each part (columns) has, after checking the split."""
    parts = (split.train, split.val, split.test)
    assert all(part.dtype == np.int64 and (np.diff(part) > 0).all() for part in parts)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(records)))
    counts = [np.bincount(records.labels[part], minlength=len(records.classes)).tolist() for part in parts]
    return [list(row) for row in zip(*counts, strict=True)]


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([100, 50], [[70, 20, 10], [35, 10, 5]]),
        ([3], [[1, 1, 1]]),
        ([4], [[2, 1, 1]]),
        ([2], [[1, 0, 1]]),
        ([1], [[1, 0, 0]]),
        ([100, 2, 1, 0], [[70, 21, 9], [1, 0, 1], [1, 0, 0], [0, 0, 0]]),
        ([90], [[63, 18, 9]]),
    ],
)
def test_pooled_table(counts: list[int], expected: list[list[int]]) -> None:
    records = make(counts)
    assert table(records, pooled(records, seed=0)) == expected


def test_pooled_sizes_do_not_drift_with_many_classes() -> None:
    """Rounded on its own, each class of 14 would get 10, 3 and 1: val would have 99 images, test 33."""
    records = make([14] * 33)
    rows = np.array(table(records, pooled(records, seed=0)))
    assert rows.sum(0).tolist() == [324, 92, 46]  # of 462: 323.4, 92.4, 46.2
    assert (np.abs(rows - 14 * np.array([0.7, 0.2, 0.1])) < 1).all()


def test_pooled_holds_for_any_counts() -> None:
    rng = np.random.default_rng(7)
    for seed in range(60):
        counts = rng.integers(0, [6, 40, 300][seed % 3], size=rng.integers(1, 12)).tolist()
        if sum(counts) == 0:
            continue
        records = make(counts)
        rows = np.array(table(records, pooled(records, seed)))
        assert all(row.min() >= 1 for row, count in zip(rows, counts, strict=True) if count >= 3)
        if min(counts) >= 10:  # no class is too small for its shares
            assert (np.abs(rows.sum(0) - sum(counts) * np.array([0.7, 0.2, 0.1])) < 1).all(), counts
            assert (np.abs(rows - np.outer(counts, [0.7, 0.2, 0.1])) < 2).all(), counts


def test_pooled_depends_on_the_seed_alone() -> None:
    records = make([60, 40], parts=["test"] * 100)
    first, again, other = (pooled(records, seed) for seed in (5, 5, 6))
    assert first.train.tolist() == again.train.tolist() and first.test.tolist() == again.test.tolist()
    assert first.test.tolist() != other.test.tolist()


def test_pooled_other_shares() -> None:
    records = make([60, 40])
    assert table(records, pooled(records, 0, shares=(0.5, 0.25, 0.25))) == [[30, 15, 15], [20, 10, 10]]


@pytest.mark.parametrize(
    "shares", [(0.7, 0.2, 0.2), (0.8, 0.2, 0.0), (1.2, -0.1, -0.1), (float("nan"), 0.5, 0.5)]
)
def test_pooled_refuses_shares(shares: tuple[float, float, float]) -> None:
    with pytest.raises(UserError, match="must be positive and sum to 1"):
        pooled(make([30]), 0, shares)


def test_pooled_refuses_no_records() -> None:
    with pytest.raises(UserError, match="made: there is no image to split"):
        pooled(make([0, 0]), 0)


def test_official_keeps_a_complete_published_split() -> None:
    parts = ["test", "train", "val", "train", "test", "train"]
    for seed in (0, 1):
        split = official(make([3, 3], parts), seed)
        assert (split.train.tolist(), split.val.tolist(), split.test.tolist()) == ([1, 3, 5], [2], [0, 4])


def test_official_draws_val_from_train() -> None:
    records = make([90, 45], ["train"] * 90 + ["test"] * 45)
    split = official(records, 0)
    table(records, split)
    assert split.test.tolist() == list(range(90, 135))
    assert (len(split.train), len(split.val)) == (70, 20)
    drawn, offered = records.labels[split.val].mean(), records.labels[:90].mean()
    assert abs(drawn - offered) < 0.05
    assert official(records, 0).val.tolist() == split.val.tolist() != official(records, 1).val.tolist()


def test_official_draws_test_from_train() -> None:
    records = make([60, 40], ["train"] * 80 + ["val"] * 20)
    split = official(records, 0)
    table(records, split)
    assert split.val.tolist() == list(range(80, 100)) and len(split.test) == 10 and split.test.max() < 80


def test_official_test_leaves_half_of_a_small_train() -> None:
    records = make([60, 40], ["train"] * 10 + ["val"] * 90)
    assert len(official(records, 0).train) == 5


def test_official_with_train_only_is_7_2_1() -> None:
    records = make([60, 40], ["train"] * 100)
    assert table(records, official(records, 0)) == [[42, 12, 6], [28, 8, 4]]


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (None, "no split is published"),
        (["val", "test", "test"], "no training image"),
        (["train", "test", "Test"], r"parts named \['Test'\]"),
    ],
)
def test_official_refuses(parts: list[str] | None, said: str) -> None:
    with pytest.raises(UserError, match=f"made: .*{said}"):
        official(make([3], parts), 0)


@pytest.mark.filterwarnings("ignore:.*MD5")
def test_real_splits(data_root: Path) -> None:
    for file in sorted(data_root.glob("*.npz")):
        records = load(file.stem, data_root)
        pool, kept = pooled(records, 0), official(records, 0)
        rows = np.array(table(records, pool))
        table(records, kept)
        assert rows.min() >= 1 and len(kept.val) and len(kept.test)
        assert (np.abs(rows.sum(0) - len(records) * np.array([0.7, 0.2, 0.1])) < 1).all(), file.name
