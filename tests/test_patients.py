"""Patients stay together in every split and partition; partitions by size; duplicates."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedrobust.data.duplicates import Duplicates, duplicates
from fedrobust.data.partition import PARTITIONS, partition
from fedrobust.data.records import Records
from fedrobust.data.split import official, pooled
from fedrobust.errors import UserError

SPECS = [
    "iid",
    "dirichlet(alpha=0.5, min_size=1)",
    "dirichlet(alpha=0.5, shares=[0.6, 0.3, 0.1])",
    "site",
    "site(shares=[0.52, 0.42, 0.06])",
    "sizes(shares=[5, 3, 2])",
    "pathological(k=2)",
    "shards",
]


def test_every_partition_is_in_the_property_test() -> None:
    assert {spec.partition("(")[0] for spec in SPECS} == set(PARTITIONS)


def made(seed: int, patients: int, most: int) -> Records:
    """Return records of patients with up to so many images each, of classes that may differ; some unnamed."""
    draw = np.random.default_rng(seed)
    of_patient = draw.permutation(np.repeat(np.arange(patients), draw.integers(1, most + 1, patients)))
    n = len(of_patient)
    labels = (of_patient + (draw.random(n) < 0.1)) % 3
    names = np.array([f"p{number}" for number in of_patient])
    names[draw.random(n) < 0.05] = ""
    images = np.arange(n * 2, dtype=np.uint16).view(np.uint8)[: n * 4].reshape(n, 1, 2, 2)
    facts = {"patient": names, "site": np.array([f"s{number % 5}" for number in of_patient])}
    return Records(images, labels.astype(np.int64), ("a", "b", "c"), facts)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000), patients=st.integers(60, 90), most=st.integers(1, 6))
def test_no_patient_is_in_two_parts_or_two_hospitals(seed: int, patients: int, most: int) -> None:
    records = made(seed, patients, most)
    split = pooled(records, seed)
    for spec in SPECS:
        hospitals = partition(records, split.train, spec, 3, seed)
        places = [*hospitals, split.val, split.test]
        assert sorted(np.concatenate(places).tolist()) == list(range(len(records)))
        found = [set(records.facts["patient"][place].tolist()) - {""} for place in places]
        assert sum(map(len, found)) == len(set.union(*found)), spec


def test_sizes_of_parts_and_hospitals_are_those_asked_for() -> None:
    records = made(0, 600, 1)
    split = pooled(records, 0)
    assert abs(len(split.train) - 420) <= 2 and abs(len(split.test) - 60) <= 2
    for spec in ("sizes(shares=[0.6, 0.394, 0.006])", "site(shares=[0.6, 0.394, 0.006])"):
        parts = partition(records, split.train, spec, 3, 0)
        np.testing.assert_allclose([len(part) for part in parts], [252, 165.5, 2.5], atol=2)
    uneven = partition(records, split.train, "dirichlet(0.1, shares=[0.5, 0.5])", 2, 0)
    shares = [np.bincount(records.labels[part], minlength=3) / len(part) for part in uneven]
    assert len(uneven[0]) == len(uneven[1]) and np.abs(shares[0] - shares[1]).max() > 0.2


def test_sites_cut_to_sizes_stay_as_whole_as_can_be() -> None:
    records = made(0, 500, 1)
    parts = partition(records, np.arange(500), "site(shares=[0.4, 0.4, 0.2])", 3, 0)
    assert [len(set(records.facts["site"][part].tolist())) for part in parts] == [2, 2, 1]


def test_pathological_hospitals_have_k_classes_and_all_are_dealt() -> None:
    records = made(0, 400, 1)
    for k in (1, 2, 3):
        parts = partition(records, np.arange(400), f"pathological({k})", 5, 1)
        assert [len(set(records.labels[part].tolist())) for part in parts] == [k] * 5
    two = partition(records, np.arange(400), "shards(per_hospital=1)", 6, 1)
    assert max(len(set(records.labels[part].tolist())) for part in two) <= 2


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("sizes", "needs the hospitals' shares"),
        ("sizes(shares=[1, 2])", "2 shares for 3 hospitals"),
        ("sizes(shares=[1, 2, 0])", "positive numbers"),
        ("pathological(k=4)", "give a k from 1 to 3"),
        ("shards(per_hospital=0)", "whole number from 1"),
        ("dirichlet(shares=[1, 1, 1], min_size=2)", "both shares and min_size"),
    ],
)
def test_partition_that_cannot_be_made_is_one_sentence(spec: str, words: str) -> None:
    records = made(0, 60, 1)
    with pytest.raises(UserError, match=words):
        partition(records, np.arange(len(records)), spec, 3, 0)


def test_patient_of_two_hospitals_or_published_parts_is_refused_by_name() -> None:
    records = made(0, 60, 3)
    sites = records.facts["site"].copy()
    one = np.flatnonzero(records.facts["patient"] == "p1")
    sites[one] = [f"s{number}" for number in range(len(one))]
    moved = replace(records, facts={**records.facts, "site": sites})
    assert len(one) > 1
    with pytest.raises(UserError, match=r"1 patients have images in several hospitals.*\(p1\)"):
        partition(moved, np.arange(len(records)), "site", 3, 0)
    parts = np.where(np.arange(len(records)) % 3 == 0, "test", "train")
    with pytest.raises(UserError, match="several published parts; use the pooled split"):
        official(replace(records, parts=parts), 0)


def test_more_hospitals_than_patients_are_refused() -> None:
    records = made(0, 4, 6)
    few = replace(records, facts={"patient": np.array([f"p{n % 4}" for n in range(len(records))])})
    with pytest.raises(UserError, match=r"hospital 4 would have no patient \(4 in all\)"):
        partition(few, np.arange(len(records)), "iid", 5, 0)


def test_duplicates_across_parts_and_hospitals_are_counted() -> None:
    records = made(0, 100, 1)
    split = pooled(records, 0)
    hospitals = partition(records, split.train, "iid", 3, 0)
    assert duplicates(records, split, hospitals) == Duplicates(0, 0)
    images = records.images.copy()
    images[split.test[0]] = images[hospitals[0][0]]
    images[split.val[0]] = images[split.val[1]]  # in one part
    images[hospitals[2][0]] = images[hospitals[1][0]]
    assert duplicates(replace(records, images=images), split, hospitals) == Duplicates(1, 2)
