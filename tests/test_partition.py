from __future__ import annotations

import random
import socket
import warnings
from pathlib import Path

import numpy as np
import pytest

from fedrobust.data.medmnist import load
from fedrobust.data.partition import PARTITIONS, partition
from fedrobust.data.records import Records
from fedrobust.data.split import pooled
from fedrobust.errors import UserError
from fedrobust.seeding import generator


def make(n: int = 400, classes: int = 4, sites: list[str] | None = None) -> Records:
    """Return records sorted by class, as many files have them."""
    return Records(
        images=np.zeros((n, 1, 1, 1), dtype=np.uint8),
        labels=np.sort(np.arange(n) % classes).astype(np.int64),
        classes=tuple(f"class {number}" for number in range(classes)),
        facts={} if sites is None else {"site": np.array(sites)},
        source="made",
    )


RECORDS = make()
INDEX = np.arange(20, 380, dtype=np.int64)  # not all, so that positions and row numbers differ


def checked(parts: tuple[np.ndarray, ...], index: np.ndarray) -> list[list[int]]:
    """Return the parts as lists, after checking that they are a partition of index."""
    assert all(part.dtype == np.int64 and len(part) and (np.diff(part) > 0).all() for part in parts)
    assert sorted(np.concatenate(parts).tolist()) == sorted(index.tolist())
    return [part.tolist() for part in parts]


def skew(parts: tuple[np.ndarray, ...], records: Records) -> float:
    """Return the mean distance of the hospitals' class shares from equal ones (0: all alike)."""
    shares = [np.bincount(records.labels[part], minlength=len(records.classes)) / len(part) for part in parts]
    return float(np.mean([np.abs(share - 1 / len(records.classes)).sum() / 2 for share in shares]))


@pytest.mark.parametrize("spec", ["iid", "dirichlet", "dirichlet(alpha=0.3, min_size=5)"])
def test_partition_deals_out_every_image_and_depends_on_the_seed_alone(spec: str) -> None:
    first = checked(partition(RECORDS, INDEX, spec, 5, seed=1), INDEX)
    assert len(first) == 5
    assert checked(partition(RECORDS, INDEX[::-1], spec, 5, seed=1), INDEX) == first
    assert checked(partition(RECORDS, INDEX, spec, 5, seed=2), INDEX) != first


def test_iid_sizes_are_equal_and_classes_alike() -> None:
    parts = partition(RECORDS, INDEX[:358], "iid", 4, seed=0)
    assert sorted(map(len, parts)) == [89, 89, 90, 90]
    assert skew(parts, RECORDS) < 0.15  # dealt out in the file's order it would be 0.75


def test_dirichlet_follows_alpha() -> None:
    skews = [
        np.mean(
            [
                skew(partition(RECORDS, INDEX, f"dirichlet(alpha={a}, min_size=1)", 4, s), RECORDS)
                for s in range(5)
            ]
        )
        for a in (0.1, 1, 100)
    ]
    assert skews[0] > skews[1] + 0.1 and skews[1] > skews[2] + 0.1 and skews[2] < 0.12
    explicit = partition(RECORDS, INDEX, "dirichlet(alpha=0.5)", 4, 3)
    short = partition(RECORDS, INDEX, "dirichlet(0.5)", 4, 3)
    assert checked(short, INDEX) == checked(explicit, INDEX)
    assert checked(partition(RECORDS, INDEX, "dirichlet", 4, 3), INDEX) == checked(explicit, INDEX)


def test_dirichlet_sizes_depend_on_the_seed() -> None:
    sizes = {tuple(map(len, partition(RECORDS, INDEX, "dirichlet", 5, seed))) for seed in range(5)}
    assert len(sizes) == 5


def test_dirichlet_does_not_follow_the_order_within_a_class() -> None:
    """The partitioner gives hospital 0 a class's first images; a file's order may be that of its sites."""
    parts = partition(make(4000, classes=1), np.arange(4000), "dirichlet(alpha=50)", 4, seed=0)
    assert all(abs(part.mean() - 2000) < 200 for part in parts)


def test_dirichlet_keeps_min_size_and_lowers_the_default_for_few_images() -> None:
    for seed in range(10):
        assert min(map(len, partition(RECORDS, INDEX, "dirichlet(min_size=30)", 5, seed))) >= 30
        assert min(map(len, partition(RECORDS, INDEX[::12], "dirichlet", 3, seed))) >= 5  # 30 images
        assert min(map(len, partition(RECORDS, INDEX, "dirichlet", 5, seed))) >= 10


def test_dirichlet_that_cannot_keep_min_size_names_the_hospitals() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(
            UserError, match=r"^hospitals? \d+(, \d+)* had fewer than 90 of 360 .* raise alpha"
        ) as e:
            partition(RECORDS, INDEX, "dirichlet(alpha=0.1, min_size=90)", 4, seed=0)
    assert "\n" not in str(e.value)


def test_sites_are_dealt_to_the_smallest_hospital_largest_first() -> None:
    sites = ["a"] * 50 + ["b"] * 30 + ["c"] * 25 + ["d"] * 10 + ["10"] * 5
    records = make(120, sites=sites)
    parts = checked(partition(records, np.arange(120), "site", 2, seed=0), np.arange(120))
    assert [sorted(set(records.facts["site"][part])) for part in parts] == [["a", "d"], ["10", "b", "c"]]
    assert checked(partition(records, np.arange(120), "site", 2, seed=9), np.arange(120)) == parts
    five = partition(records, np.arange(120), "site", 5, seed=0)
    assert [len(part) for part in five] == [50, 30, 25, 10, 5]
    assert all(len(set(records.facts["site"][part])) == 1 for part in five)


def test_sites_are_told_apart_by_their_whole_names() -> None:
    parts = partition(make(4, sites=["a", "a\0b", "a", "a\0b"]), np.arange(4), "site", 2, seed=0)
    assert [part.tolist() for part in parts] == [[0, 2], [1, 3]]


@pytest.mark.parametrize(
    ("records", "hospitals", "said"),
    [
        (make(), 2, "made: the images have no sites"),
        (make(4, sites=["a", "b", "a", "a"]), 3, "made: 2 sites for 3 hospitals; ask for at most 2"),
        (make(4, sites=["a", "b", "", "a"]), 2, "made: 1 training images have no site"),
    ],
)
def test_sites_that_do_not_suffice(records: Records, hospitals: int, said: str) -> None:
    with pytest.raises(UserError, match=said):
        partition(records, np.arange(len(records)), "site", hospitals, seed=0)


@pytest.mark.parametrize("spec", list(PARTITIONS))
def test_more_hospitals_than_images(spec: str) -> None:
    records = make(5, sites=list("abcde"))
    with pytest.raises(
        UserError, match=r"^hospitals 3, 4, 5 would have no image \(3 in all\); ask for fewer"
    ):
        partition(records, np.arange(3), spec, 6, seed=0)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("noniid", r"did you mean 'dirichlet\(alpha=0.5\)'"),
        ("Non-IID", r"did you mean 'dirichlet\(alpha=0.5\)'"),
        ("dirichlett", "unknown partition 'dirichlett': did you mean 'dirichlet'"),
        ("dirichlet(alfa=1)", "no option 'alfa' .* did you mean 'alpha'"),
        ("iid(alpha=1)", "partition 'iid' has no option 'alpha'"),
        ("dirichlet(alpha=0)", "alpha is 0 "),
        ("dirichlet(alpha=-1)", "alpha is -1 "),
        ("dirichlet(alpha=nan)", "alpha is 'nan' "),
        ("dirichlet(alpha=True)", "alpha is True "),
        ("dirichlet(alpha=1e999)", "alpha is inf "),
        ("dirichlet(min_size=0)", "min_size is 0 "),
        ("dirichlet(min_size=1.5)", "min_size is 1.5 "),
        ("dirichlet(0)", "alpha is 0 "),
        ("dirichlet(0.5, 3)", "dirichlet"),
        ("iid(3)", "partition 'iid' takes no options"),
        ("dirichlet(alpha=", "dirichlet"),
        ("", "''"),
    ],
)
def test_specs_that_are_not_understood(spec: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        partition(RECORDS, INDEX, spec, 3, seed=0)


def test_no_hospital() -> None:
    with pytest.raises(UserError, match="0 hospitals"):
        partition(RECORDS, INDEX, "iid", 0, seed=0)


def test_partition_is_silent_and_touches_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the partition reached for the network")

    import flwr_datasets.partitioner  # noqa: F401  (what its import alone does is another matter)

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    before = random.getstate(), str(np.random.get_state(legacy=False))
    records = make(400, sites=[str(number % 7) for number in range(400)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for spec in ("iid", "dirichlet(alpha=0.3, min_size=25)", "site"):
            partition(records, INDEX, spec, 5, seed=4)
    assert (random.getstate(), str(np.random.get_state(legacy=False))) == before
    assert capfd.readouterr() == ("", "") and list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore:.*MD5")
def test_real_partitions(data_root: Path) -> None:
    for file in sorted(data_root.glob("*.npz")):
        records = load(file.stem, data_root)
        train = pooled(records, 0).train
        for spec in ("iid", "dirichlet"):
            checked(partition(records, train, spec, 5, seed=0), train)
        if "site" in records.facts:
            parts = partition(records, train, "site", 2, seed=0)
            checked(parts, train)
            assert [set(records.facts["site"][part]) for part in parts] == [{"0"}, {"1"}]


def test_iid_is_what_flwr_datasets_deals_out() -> None:
    from datasets import Dataset
    from flwr_datasets.partitioner import IidPartitioner

    shuffled = generator(5, "partition").permutation(np.sort(INDEX[:101]))
    dealer = IidPartitioner(num_partitions=7)
    dealer.dataset = Dataset.from_dict({"position": shuffled})
    theirs = [sorted(dealer.load_partition(number)["position"]) for number in range(7)]
    assert [part.tolist() for part in partition(RECORDS, INDEX[:101], "iid", 7, seed=5)] == theirs
