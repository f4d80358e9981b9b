"""The embedded data set: same seed same bytes, the promised shares, and findings one can measure."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from fedrobust.data import phantom as module
from fedrobust.data.phantom import CLASSES, phantom
from fedrobust.data.records import Records
from fedrobust.errors import UserError


@pytest.fixture(scope="module")
def drawn() -> Records:
    """Return the default data set."""
    return phantom()


def of(records: Records, name: str) -> NDArray[np.float64]:
    """Return the pictures of one class in [0, 1]."""
    return np.asarray(records.images[records.labels == CLASSES.index(name), 0] / 255)


def test_same_seed_same_bytes_and_other_seed_other_bytes() -> None:
    """A seed decides every byte; another seed gives other pictures, labels and facts."""
    first, again, other = phantom(3, 60), phantom(3, 60), phantom(4, 60)
    assert first.digest() == again.digest()
    assert (first.labels != other.labels).any()
    assert (first.facts["site"] != other.facts["site"]).any()
    assert len(np.unique(np.concatenate([first.images, other.images]), axis=0)) == 120


@pytest.mark.parametrize("pixels", [1, 7 * 24**2, 1 << 30])
def test_chunks_leave_no_trace(pixels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing one by one, seven at a time or all at once gives the same bytes."""
    expected = phantom(1, 50, 24).digest()
    monkeypatch.setattr(module, "PIXELS_AT_ONCE", pixels)
    assert phantom(1, 50, 24).digest() == expected


@pytest.mark.parametrize("size", [16, 32, 50, 64])
def test_shape_type_and_origin(size: int) -> None:
    """Every size gives grey uint8 pictures that use the brightness range, and says what they are."""
    records = phantom(0, 40, size)
    assert records.images.shape == (40, 1, size, size)
    assert records.images.dtype == np.uint8
    assert (records.images.std(axis=(1, 2, 3)) > 25).all()
    assert records.synthetic
    assert records.parts is None
    assert records.source == "phantom (synthetic)"


def test_the_same_person_at_every_size() -> None:
    """A picture at 64 px shows the chest of its namesake at 32 px, and not its neighbour's."""
    small, large = phantom(0, 40, 32).images[:, 0], phantom(0, 40, 64).images[:, 0]
    shrunk = large.reshape(40, 32, 2, 32, 2).mean(axis=(2, 4))
    table = np.corrcoef(small.reshape(40, -1), shrunk.reshape(40, -1))[:40, 40:]
    assert (table.argmax(axis=1) == np.arange(40)).all()
    assert table.diagonal().min() > 0.9


def test_class_counts(drawn: Records) -> None:
    """Shares are exact by largest remainder, and even the smallest set has every class."""
    assert drawn.counts().tolist() == [1200, 660, 390, 360, 240, 150]
    assert phantom(0, 101, 16).counts().tolist() == [41, 22, 13, 12, 8, 5]
    assert phantom(0, 6, 16).counts().tolist() == [1] * 6
    assert (np.bincount(drawn.labels[:300], minlength=6) > 5).all(), "labels are not shuffled"


@pytest.mark.parametrize(("fact", "values"), [("sex", {"", "F", "M"}), ("view", {"", "AP", "PA"})])
def test_missing_values_are_bound_to_classes(drawn: Records, fact: str, values: set[str]) -> None:
    """Sex and view are missing as often as the class says."""
    assert set(drawn.facts[fact].tolist()) == values
    missing = [(drawn.facts[fact][drawn.labels == c] == "").mean() for c in range(6)]
    assert missing == pytest.approx([0.15, 0.25, 0.02, 0.02, 0.5, 0.5], abs=0.1)


def test_site_is_independent_of_class(drawn: Records) -> None:
    """The site-by-class table is what chance gives (chi-square, 20 degrees of freedom, p > 0.001)."""
    names, site = np.unique(drawn.facts["site"], return_inverse=True)
    assert names.tolist() == [f"site-{k}" for k in range(5)]
    table = np.bincount(site * 6 + drawn.labels, minlength=30).reshape(5, 6)
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    assert ((table - expected) ** 2 / expected).sum() < 45.3
    shares = table.sum(axis=1) / table.sum()
    assert 0.1 < shares.min() < shares.max() < 0.32
    assert shares.max() > shares.min() + 0.01


def test_each_site_has_a_marker_of_its_own(drawn: Records) -> None:
    """Four pixels have the marker's brightness in all of a site's pictures, elsewhere at each site."""
    places = set()
    for name in np.unique(drawn.facts["site"]):
        here = drawn.images[drawn.facts["site"] == name, 0]
        rows, columns = np.nonzero((here == here[0]).all(axis=0) & (here[0] == 242))
        assert len(rows) == 4
        assert set(columns.tolist()) in ({1, 2}, {29, 30})
        places.add((int(rows[0]), int(columns[0])))
    assert len(places) == 5


def test_scanners_differ(drawn: Records) -> None:
    """Noise in the dark upper corners is not the same at all sites."""
    rough = [
        np.diff(drawn.images[drawn.facts["site"] == name, 0, 6:20, 10:22].astype(float), axis=2).std()
        for name in np.unique(drawn.facts["site"])
    ]
    assert max(rough) > 1.2 * min(rough)


def heart_widths(pictures: NDArray[np.float64]) -> NDArray[np.int64]:
    """Count the pixels, at the heart's height, that are nearer to the brightest than to the darkest."""
    band = pictures[:, 18:21, 4:28].mean(axis=1)
    middle = (band[:, 6:18].max(axis=1) + band.min(axis=1)) / 2
    return np.asarray((band[:, 3:21] > middle[:, None]).sum(axis=1))


def test_cardiomegaly_has_a_wider_heart(drawn: Records) -> None:
    """On average two pixels wider at 32 px, yet the widest normal heart exceeds the narrowest large one."""
    normal, large = heart_widths(of(drawn, "no finding")), heart_widths(of(drawn, "cardiomegaly"))
    assert large.mean() > normal.mean() + 2
    assert normal.max() > large.min()


@pytest.fixture(scope="module")
def change(drawn: Records) -> NDArray[np.float64]:
    """Return what the findings changed: the pictures less the same people's without any finding."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "FINDINGS", {})
        return np.asarray((drawn.images[:, 0] - phantom().images[:, 0].astype(np.float64)) / 255)


def strongest(change: NDArray[np.float64], sign: int) -> NDArray[np.float64]:
    """Return each picture's strongest brightening (sign 1) or darkening (sign -1)."""
    return np.asarray((sign * change).max(axis=(1, 2)))


@pytest.mark.parametrize("name", ["no finding", "cardiomegaly"])
def test_nothing_is_painted_on_the_others(drawn: Records, change: NDArray[np.float64], name: str) -> None:
    """No finding means no change at all, and a large heart is anatomy."""
    assert not change[drawn.labels == CLASSES.index(name)].any()


@pytest.mark.parametrize(
    ("name", "bright", "dark"),
    [("pneumonia", 0.1, 0), ("pneumothorax", 0.03, 0.1), ("tuberculosis", 0.15, 0), ("covid19", 0.1, 0)],
)
def test_finding_shows(
    drawn: Records, change: NDArray[np.float64], name: str, bright: float, dark: float
) -> None:
    """Nearly every picture shows its finding; only pneumothorax darkens, and it draws a bright line too."""
    mine = change[drawn.labels == CLASSES.index(name)]
    assert (strongest(mine, 1) > bright).mean() > 0.9
    assert (strongest(mine, -1) > max(dark, 0.02)).mean() == pytest.approx(float(dark > 0), abs=0.1)


def test_finding_shows_where_it_belongs(drawn: Records, change: NDArray[np.float64]) -> None:
    """Tuberculosis is high, pneumonia rather low and one-sided, covid19 low, lateral and on both sides."""

    def share(name: str, rows: slice, columns: slice) -> NDArray[np.float64]:
        mine = abs(change[drawn.labels == CLASSES.index(name)])
        return np.asarray(mine[:, rows, columns].sum(axis=(1, 2)) / mine.sum(axis=(1, 2)))

    everywhere, upper, left = slice(None), slice(0, 16), slice(0, 16)
    assert np.median(share("tuberculosis", upper, everywhere)) > 0.9
    assert np.median(share("pneumonia", upper, everywhere)) < 0.4
    assert np.median(abs(share("pneumonia", everywhere, left) - 0.5)) > 0.45
    assert np.median(abs(share("pneumothorax", everywhere, left) - 0.5)) > 0.45
    assert np.median(abs(share("covid19", everywhere, left) - 0.5)) < 0.15
    assert np.median(share("covid19", everywhere, slice(10, 22))) < 0.3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"images": 5}, "images is 5.*give 6 or more"),
        ({"size": 15}, "size is 15.*give 16 to 256"),
        ({"size": 257}, "size is 257.*give 16 to 256"),
        ({"sites": 0}, "sites is 0.*give 1 or more"),
    ],
)
def test_impossible_arguments(arguments: dict[str, int], words: str) -> None:
    """What cannot be drawn is refused with the argument, its value and what to give."""
    with pytest.raises(UserError, match=words):
        phantom(**arguments)


def test_one_site_and_largest_size() -> None:
    """The limits themselves work."""
    records = phantom(0, 6, 256, 1)
    assert records.images.shape == (6, 1, 256, 256)
    assert set(records.facts["site"].tolist()) == {"site-0"}
