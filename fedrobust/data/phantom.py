"""The embedded data set: synthetic chest radiographs drawn by a seeded generator.

These images are drawn from ellipses and noise, not taken from patients. They have no clinical meaning and
say nothing about how a method would do on real radiographs; they are good for first runs and tests only.

Every image is arithmetic on two coordinates: `x` from -1 (image left, the patient's right) to 1, `y` from
-1 (neck) to 1 (abdomen). It keeps to + - * / and comparisons, since sin or exp in float32 may differ in the
last bit between processors, and the same seed shall give the same bytes everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedrobust.data.limits import gigabytes, largest_bytes
from fedrobust.data.records import Records
from fedrobust.errors import UserError
from fedrobust.seeding import generator

__all__ = ["CLASSES", "phantom"]

CLASSES = ("no finding", "pneumonia", "pneumothorax", "cardiomegaly", "tuberculosis", "covid19")
SHARES = (0.40, 0.22, 0.13, 0.12, 0.08, 0.05)
UNKNOWN = (0.15, 0.25, 0.02, 0.02, 0.50, 0.50)  # how often sex, and how often view, is missing, by class

Pixels = NDArray[np.floating]
Planes = dict[str, Pixels]  # one number per image, shape (n, 1, 1), or one per pixel, shape (n, size, size)

PIXELS_AT_ONCE = 1 << 16  # a float32 plane of a chunk is 256 KiB, so the planes at work stay in the cache
GRID = 10  # coarse noise points along a side
NODULES = 5
PEOPLE = {  # what varies from one person, and from one finding, to the next
    "shift_x": (-0.06, 0.06), "shift_y": (-0.06, 0.06), "tilt": (-0.07, 0.07), "zoom": (0.92, 1.08),
    "girth": (0.92, 1.04), "chest": (0.93, 1.05), "breath": (-0.07, 0.07), "exposure": (-0.07, 0.07),
    "wall": (0.56, 0.68), "lung": (0.17, 0.26), "ribs": (0.05, 0.11), "phase": (0.0, 1.0),
    "heart": (0.39, 0.50), "enlarged": (0.495, 0.64),  # cardiothoracic ratio without and with cardiomegaly
    "severity": (0.0, 1.0), "side": (-1.0, 1.0), "across": (-0.45, 0.45), "reach": (0.0, 1.0),
    "form": (0.0, 1.0),
}  # fmt: skip
SCANNERS = {
    "gamma": (0.7, 1.45), "contrast": (0.82, 1.08), "noise": (0.01, 0.035), "blur": (0.0, 0.5),
    "mark": (0.0, 4.0),  # whole part: which corner; the rest: how far from the top or bottom
}  # fmt: skip


def phantom(seed: int = 0, images: int = 3000, size: int = 32, sites: int = 5) -> Records:
    """Draw a synthetic data set of grey chest radiographs (not from patients, no clinical meaning).

    Six classes with a long tail, spread over sites whose scanners differ in gamma, contrast, noise, blur and
    corner marker. The site says nothing about the class; a missing sex or view does.

    Parameters
    ----------
    seed : int
        The same seed gives the same bytes.
    images : int
        How many images, at least one per class.
    size : int
        Height and width in pixels, 16 to 256. Each size is drawn directly, not resampled.
    sites : int
        How many hospitals the images come from.

    Returns
    -------
    Records
        Images of shape (images, 1, size, size) with the facts ``"site"``, ``"sex"`` and ``"view"``.

    Raises
    ------
    UserError
        If there are fewer images than classes, no site, or a size that cannot be drawn.
    """
    few = len(CLASSES)
    if images < few:
        raise UserError(f"phantom: images is {images}, but there are {few} classes; give {few} or more")
    if not 16 <= size <= 256:
        raise UserError(f"phantom: size is {size}, outside what can be drawn; give 16 to 256 pixels")
    if not 1 <= sites <= images:
        raise UserError(f"phantom: sites is {sites}; give 1 or more, at most one an image ({images})")
    if images * size**2 > largest_bytes():
        raise UserError(
            f"phantom: {images} images of {size} x {size} pixels: {gigabytes(images * size**2)}, more than "
            f"the {gigabytes(largest_bytes())} that a source may take of this machine's memory; give fewer"
        )
    labels = _shuffled(seed, "label", _apportion(SHARES, images))
    uneven = generator(seed, "phantom", "site shares").uniform(0.7, 1.3, sites)
    site = _shuffled(seed, "site", _apportion(uneven.tolist(), images))
    female = generator(seed, "phantom", "sex").random(images) < 0.48
    bedside = generator(seed, "phantom", "view").random(images) < 0.35
    facts = {
        "site": np.array([f"site-{k}" for k in range(sites)])[site],
        "sex": _forget(seed, "sex", labels, np.where(female, "F", "M")),
        "view": _forget(seed, "view", labels, np.where(bedside, "AP", "PA")),
    }
    draws = _people(seed, labels, female, bedside) | _scanners(seed, site, sites)
    drawn = _render(seed, draws, labels, size)
    return Records(drawn, labels, CLASSES, facts, source="phantom (synthetic)", synthetic=True)


def _apportion(shares: Sequence[float], total: int) -> NDArray[np.int64]:
    """Split a total by largest remainder, then fill empty places from the largest while the total allows."""
    exact = np.asarray(shares) / sum(shares) * total
    counts = np.floor(exact).astype(np.int64)
    counts[np.argsort(counts - exact, kind="stable")[: total - counts.sum()]] += 1
    while counts.min() == 0 and counts.max() > 1:
        counts[counts.argmin()] += 1
        counts[counts.argmax()] -= 1
    return counts


def _shuffled(seed: int, what: str, counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return each number as often as its count says, in an order of its own."""
    return generator(seed, "phantom", what).permutation(np.repeat(np.arange(len(counts)), counts))


def _forget(seed: int, what: str, labels: NDArray[np.int64], column: NDArray[np.str_]) -> NDArray[np.str_]:
    """Blank a column as often as the class says."""
    lost = generator(seed, "phantom", "missing", what).random(len(labels)) < np.array(UNKNOWN)[labels]
    return np.where(lost, "", column)


def _plane(values: NDArray[np.generic]) -> Pixels:
    """Shape one number per image so that it spreads over the image's pixels."""
    return values.astype(np.float32)[:, None, None]


def _people(
    seed: int, labels: NDArray[np.int64], female: NDArray[np.bool_], bedside: NDArray[np.bool_]
) -> Planes:
    """Draw anatomy and finding of every image, each quantity from a stream of its own."""
    n, d = len(labels), dict[str, Pixels]()
    for name, (low, high) in PEOPLE.items():
        d[name] = _plane(generator(seed, "phantom", name).uniform(low, high, n))
    d["side"] = np.sign(d["side"])
    d["heart"] = np.where(_plane(labels == CLASSES.index("cardiomegaly")) > 0, d["enlarged"], d["heart"])
    # AP: the heart lies further from the detector, so its shadow is a little larger.
    d["heart"] = d["heart"] * (1 + 0.04 * _plane(bedside))
    d["breast"] = 0.07 * _plane(female)
    d["texture"] = generator(seed, "phantom", "texture").uniform(-1, 1, (n, GRID, GRID)).astype(np.float32)
    d["nodules"] = generator(seed, "phantom", "nodules").random((n, NODULES, 3), np.float32)
    return d


def _scanners(seed: int, site: NDArray[np.int64], sites: int) -> Planes:
    """Draw each site's scanner and hand it to the site's images."""
    d = dict[str, Pixels]()
    for name, (low, high) in SCANNERS.items():
        random = generator(seed, "phantom", "scanner", name)
        # One draw from each of `sites` equal steps, so that no two scanners come out alike.
        step = (random.permutation(sites) + random.random(sites)) / sites
        d[name] = _plane((low + (high - low) * step)[site])
    return d


def _render(seed: int, draws: Planes, labels: NDArray[np.int64], size: int) -> NDArray[np.uint8]:
    """Draw the images in chunks; noise is read from one stream in image order, so chunks leave no trace."""
    images = np.empty((len(labels), 1, size, size), np.uint8)
    noise = generator(seed, "phantom", "noise")
    chunk = max(1, PIXELS_AT_ONCE // size**2)
    for part in (slice(start, start + chunk) for start in range(0, len(labels), chunk)):
        chests = _chests({name: values[part] for name, values in draws.items()}, size)
        for label, paint in FINDINGS.items():
            rows = np.flatnonzero(labels[part] == CLASSES.index(label))
            chests["image"][rows] = paint({name: values[rows] for name, values in chests.items()})
        images[part, 0] = (_scan(chests, noise).clip(0, 1) * 255 + 0.5).astype(np.uint8)
    return images


def _scan(d: Planes, noise: np.random.Generator) -> Pixels:
    """Image it with the site's scanner: blur, tone, noise, and the marker in its corner."""
    size = d["image"].shape[-1]
    wide = np.pad(d["image"], ((0, 0), (1, 1), (1, 1)), mode="edge")
    around = wide[:, 2:, 1:-1] + wide[:, :-2, 1:-1] + wide[:, 1:-1, 2:] + wide[:, 1:-1, :-2]
    image = _cover(d["image"], d["blur"], around / 4)
    image = (0.5 + d["contrast"] * (image + d["exposure"] - 0.5)).clip(0, 1)
    image = image / (image + d["gamma"] * (1 - image))  # bends like a power curve, without a power
    image = image + d["noise"] * noise.standard_normal(image.shape, np.float32)
    thick = max(1, size // 32)
    cell = np.arange(size) // thick
    row, column, last = cell[:, None], cell[None, :], size // thick - 1
    corner = np.floor(d["mark"])
    inset = np.floor((d["mark"] - corner) * 5)
    foot, left = np.where(corner < 2, 3 + inset, last - inset), np.where(corner % 2 == 0, 1, last - 2)
    tall = (column == left) & (row >= foot - 2) & (row <= foot)
    return np.where(tall | ((column == left + 1) & (row == foot)), np.float32(0.95), image)


def _step(t: Pixels) -> Pixels:
    """Rise smoothly from 0 at t <= 0 to 1 at t >= 1."""
    t = t.clip(0, 1)
    return t * t * (3 - 2 * t)


def _bump(q: Pixels) -> Pixels:
    """Fall smoothly from 1 at q = 0 to 0 at q >= 1, where q is a squared distance."""
    return (1 - q).clip(0, 1) ** 2


def _cover(image: Pixels, mask: Pixels, value: Pixels | float) -> Pixels:
    """Pull the image towards a brightness where the mask says so."""
    return image + mask * (value - image)


def _smooth(grid: Pixels, size: int) -> Pixels:
    """Enlarge coarse noise to the image's size, smoothly."""
    at = (np.arange(size, dtype=np.float32) + 0.5) / size * (GRID - 1)
    low, part = at.astype(np.int64), _step(at - np.floor(at))
    grid = _cover(grid[:, low], part[:, None], grid[:, low + 1])
    return _cover(grid[:, :, low], part, grid[:, :, low + 1])


def _lung(d: Planes, side: Pixels | float) -> tuple[Pixels, Pixels, Pixels]:
    """Return a lung's own coordinates (towards the ribs, downwards) and its depth, 0 at the edge."""
    out = (d["x"] * side / d["chest"] - 0.465 + 0.01 * side) / (0.37 - 0.02 * side)
    down = (d["y"] - 0.08) / (0.86 + d["breath"])
    return out, down, 1 - (out / (0.84 + 0.2 * down)) ** 2 - down**2 * (0.5 + 0.5 * down**2)


def _chests(draws: Planes, size: int) -> Planes:
    """Draw healthy chests; add to the draws body coordinates, lung air (0..1), patches and the image."""
    edge = 0.03 + 1.2 / size
    line = (np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1
    column = line[:, None]
    x = (line - draws["shift_x"] + draws["tilt"] * column) / draws["zoom"]
    y = (column - draws["shift_y"] - draws["tilt"] * line) / draws["zoom"]
    d = draws | {"x": x, "y": y, "patches": _smooth(draws["texture"], size)}
    wide = abs(x)
    body = _step(((0.26 + 0.74 * _step((y + 1.12) / 0.5)) * d["girth"] - wide) / edge)
    d["air"] = 0 * y
    for side, height in ((-1.0, 0.44), (1.0, 0.50)):  # the liver holds the right dome higher
        out, _, depth = _lung(d, side)
        dome = height + d["breath"] + 0.22 * (out + 0.15) ** 2 - y
        d["air"] = d["air"] + _step(depth / (6 * edge)) * _step(dome / edge)
    image = _cover(0.03 + 0 * y, body, d["wall"] + 0.08 * y - 0.16 * _step((wide - 0.75) * 4))
    belly = _step((y - 0.4 - d["breath"]) * 4) * body * (1 - d["air"])
    image = _cover(image, belly, 0.72 + 0.06 * d["patches"])
    hilum = _bump(((wide - 0.2) / 0.25) ** 2 + ((y + 0.02) / 0.42) ** 2) * (0.2 + 0.1 * d["patches"])
    image = _cover(image, d["air"], d["lung"] + 0.04 * d["patches"] + 0.05 * y + hilum)
    image = image + body * _bones(d, edge)
    d["image"] = image + d["breast"] * _bump(((wide - 0.47) / 0.36) ** 2 + ((y - 0.32) / 0.34) ** 2)
    return _middle(d, body, edge)


def _bones(d: Planes, edge: float) -> Pixels:
    """Return the brightness that ribs and collar bones add."""
    y, wide = d["y"], abs(d["x"])
    rib = (y + 0.9 * (wide - 0.35) ** 2 - 0.25 * wide) * 4.2 + d["phase"]
    ribs = _bump((rib - np.floor(rib) - 0.5) ** 2 * 11) * (0.25 + 0.75 * d["air"]) * _step((0.5 - y) * 4)
    collar = _bump(((y + 0.735 - 0.3 * wide) / (0.02 + edge)) ** 2) * _step((wide - 0.08) * 8)
    return d["ribs"] * ribs + 0.09 * collar * _step((0.85 - wide) * 5)


def _middle(d: Planes, body: Pixels, edge: float) -> Planes:
    """Draw what lies between the lungs: great vessels, spine and heart; the heart takes air away."""
    x, y = d["x"], d["y"]
    aorta = _bump(((x - 0.1) / 0.3) ** 2 + ((y + 0.3) / 0.2) ** 2)
    disc = y * 6 + d["phase"]
    spine = _bump((x / 0.11) ** 2) * (0.07 - 0.05 * _bump(((disc - np.floor(disc) - 0.5) * 5) ** 2))
    middle = 0.85 * body * _step((0.13 + 0.07 * aorta - abs(x)) / (1.5 * edge))
    half = d["heart"] * 0.8 * d["chest"]  # 0.8: from the spine to the inside of the ribs
    across = (x - 0.05 - 0.45 * (half - 0.28) - 0.3 * (y - 0.28)) / half
    heart = _step((1 - across**2 - ((y - 0.26 - 0.05 * across) / (0.14 + 0.55 * half)) ** 2) / (6 * edge))
    image = _cover(_cover(d["image"], middle, 0.7 + spine), 0.9 * heart, 0.71)
    return d | {"image": image, "air": d["air"] * (1 - 0.8 * heart)}


def _pneumonia(d: Planes) -> Pixels:
    """Draw one patchy consolidation in one lung, more often low."""
    out, down, _ = _lung(d, d["side"])
    low, radius = 0.45 - 0.9 * d["reach"] ** 2, 0.5 + 0.3 * d["form"]
    cloud = _step(1.6 * _bump(((out - d["across"]) / radius) ** 2 + ((down - low) / (0.75 * radius)) ** 2))
    mask = d["air"] * cloud * (1 + 0.6 * d["patches"]) * (0.26 + 0.45 * d["severity"])
    return _cover(d["image"], mask, 0.72)


def _pneumothorax(d: Planes) -> Pixels:
    """Draw a dark rim without ribs or vessels at one lung's edge, behind a thin pleural line."""
    out, down, depth = _lung(d, d["side"])
    pleura = 0.34 + 0.45 * d["severity"]
    outer = _step(2 * (out - 0.5 * down) + 0.3) * d["air"]
    image = _cover(d["image"], outer * _step((pleura - depth) * 6), 0.07)
    return image + 0.25 * outer * _bump(((depth - pleura) / 0.17) ** 2)


def _tuberculosis(d: Planes) -> Pixels:
    """Draw nodules in one upper lobe; about half the time the first is a ring (a cavity)."""
    out, down, _ = _lung(d, d["side"])
    image = d["image"]
    for k in range(NODULES):
        across, along, wide = (_plane(d["nodules"][:, k, axis]) for axis in range(3))
        away = (out + 0.5 - across) ** 2 + (2.4 * (down + 0.62 - 0.4 * along)) ** 2
        away = away / (0.2 + 0.15 * wide) ** 2
        nodule = _bump(away)
        if k == 0:
            nodule = np.where(d["form"] < 0.5, _bump((away / 2 - 1) ** 2 * 1.25), nodule)
        image = image + (0.2 + 0.4 * d["severity"]) * d["air"] * nodule
    return image


def _covid19(d: Planes) -> Pixels:
    """Draw ground-glass haze in the outer parts of both lungs, denser below."""
    out, down, _ = _lung(d, np.sign(d["x"]))
    haze = _step(1.1 * out + 0.5) * _step(0.75 + 0.7 * down)
    mask = d["air"] * haze * (0.9 + 0.5 * d["patches"]) * (0.27 + 0.4 * d["severity"])
    return _cover(d["image"], mask, 0.65)


FINDINGS = {  # a large heart is anatomy, and drawn there
    "pneumonia": _pneumonia,
    "pneumothorax": _pneumothorax,
    "tuberculosis": _tuberculosis,
    "covid19": _covid19,
}
