"""Reads labelled images from files in MedMNIST's layout, published ones and a hospital's own."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedrobust.data.archive import read_arrays
from fedrobust.data.limits import LONGEST_NAME, MOST_CLASSES
from fedrobust.data.records import Records
from fedrobust.errors import UserError, nearest

__all__ = ["load"]

_PARTS = ("train", "val", "test")
_FACTS = ("site", "patient", "sex", "view", "age", "fold")
_KEYS = {"classes"} | {f"{part}_{what}" for part in _PARTS for what in ("images", "labels", *_FACTS)}
# Classes and MD5s of the published 2D sets, as the medmnist package 3.0.2 gives them. Texts, because as
# literals they would fill two pages. An indented line continues the one before.
_SETS = """
bloodmnist: basophil; eosinophil; erythroblast; immature granulocytes(myelocytes, metamyelocytes and
    promyelocytes); lymphocyte; monocyte; neutrophil; platelet
breastmnist: malignant; normal, benign
dermamnist: actinic keratoses and intraepithelial carcinoma; basal cell carcinoma; benign keratosis-like
    lesions; dermatofibroma; melanoma; melanocytic nevi; vascular lesions
octmnist: choroidal neovascularization; diabetic macular edema; drusen; normal
organamnist organcmnist organsmnist: bladder; femur-left; femur-right; heart; kidney-left; kidney-right;
    liver; lung-left; lung-right; pancreas; spleen
pathmnist: adipose; background; debris; lymphocytes; mucus; smooth muscle; normal colon mucosa;
    cancer-associated stroma; colorectal adenocarcinoma epithelium
pneumoniamnist: normal; pneumonia
retinamnist: 0; 1; 2; 3; 4
tissuemnist: Collecting Duct, Connecting Tubule; Distal Convoluted Tubule; Glomerular endothelial cells;
    Interstitial endothelial cells; Leukocytes; Podocytes; Proximal Tubule Segments; Thick Ascending Limb
"""
_FILES = """
bloodmnist 7053d0359d879ad8a5505303e11de1dc bloodmnist_64 2b94928a2ae4916078ca51e05b6b800b
bloodmnist_128 adace1e0ed228fccda1f39692059dd4c bloodmnist_224 b718ff6835fcbdb22ba9eacccd7b2601
breastmnist 750601b1f35ba3300ea97c75c52ff8f6 breastmnist_64 742edef2a1fd1524b2efff4bd7ba9364
breastmnist_128 363e4b3f8d712e9b5de15470a2aaadf1 breastmnist_224 b56378a6eefa9fed602bb16d192d4c8b
dermamnist 0744692d530f8e62ec473284d019b0c7 dermamnist_64 b70a2f5635c6199aeaa28c31d7202e1f
dermamnist_128 2defd784463fa5243564e855ed717de1 dermamnist_224 8974907d8e169bef5f5b96bc506ae45d
octmnist c68d92d5b585d8d81f7112f81e2d0842 octmnist_64 e229e9440236b774d9f0dfef9d07bdaf
octmnist_128 0a97e76651ace45c5d943ee3f65b63ae octmnist_224 abc493b6d529d5de7569faaef2773ba3
organamnist 68e3f8846a6bd62f0c9bf841c0d9eacc organamnist_64 2dcccc29b88e6da5a01161ef20cda288
organamnist_128 eeae80d0a227a8d099027e1b3cfd3b60 organamnist_224 50747347e05c87dd3aaf92c49f9f3170
organcmnist b9ceb9546e10131b32923c5bbeaea2b1 organcmnist_64 3ce34a8724ea6f548e6db4744d03b6a9
organcmnist_128 773c1f009daa3fe5d9a2a201b2a7ed94 organcmnist_224 050f5e875dc056f6768abf94ec9995d1
organsmnist 9ab87b696fb54e2a387ebe992d6ed5f1 organsmnist_64 53a6d115339d874c25e309a994ff46d3
organsmnist_128 ded0c5fa01a95dc4978b956f613e9b8e organsmnist_224 b354719e553fbbb2513d5533f52a4cb1
pathmnist a8b06965200029087d5bd730944a56c1 pathmnist_64 55aa9c1e0525abe5a6b9d8343a507616
pathmnist_128 ac42d08fb904d92c244187169d1fd1d9 pathmnist_224 2c51a510bcdc9cf8ddb2af93af1eadec
pneumoniamnist 28209eda62fecd6e6a2d98b1501bb15f pneumoniamnist_64 8f4eceb4ccffa70c672198ea285246c6
pneumoniamnist_128 05b46931834c231683c68f40c47b2971 pneumoniamnist_224 d6a3c71de1b945ea11211b03746c1fe1
retinamnist bd4c0672f1bba3e3a89f0e4e876791e4 retinamnist_64 afda852cc34dcda56f86ad2b2457dbcc
retinamnist_128 e48e916a24454daf90583d4e6efb1a18 retinamnist_224 eae7e3b6f3fcbda4ae613ebdcbe35348
tissuemnist ebe78ee8b05294063de985d821c1c34b tissuemnist_64 123ece2eba09d0aa5d698fda57103344
tissuemnist_128 61b955355d7425a89687b06cca3ce0c2 tissuemnist_224 b077128c4a949f0a4eb01517f9037b9c
"""
_CLASSES: dict[str, tuple[str, ...]] = {
    name: tuple(classes.split("; "))
    for names, classes in re.findall(r"^(\w.*?): (.*)$", _SETS.replace("\n    ", " "), re.MULTILINE)
    for name in names.split()
}
_MD5: dict[str, str] = dict(re.findall(r"(\w+) ([0-9a-f]{32})", _FILES))


#: The findings of ChestMNIST, which an image may have several of, in the order of its columns.
_FINDINGS = [
    *(
        "atelectasis",
        "cardiomegaly",
        "effusion",
        "infiltration",
        "mass",
        "nodule",
        "pneumonia",
        "pneumothorax",
    ),
    *("consolidation", "edema", "emphysema", "fibrosis", "pleural", "hernia"),
]


def load(name: str, root: Path, download: bool = False, label: str = "") -> Records:
    """Read ``<root>/<name>.npz``.

    The file holds ``{train,val,test}_{images,labels}``, where parts may be missing, and may hold
    ``<part>_site``, ``<part>_sex``, ``<part>_view`` and ``classes`` (the class names of an unpublished set).

    Parameters
    ----------
    name : str
        File name without ``.npz``, such as ``"breastmnist"`` or ``"breastmnist_64"``.
    root : Path
        The folder the file lies in.
    download : bool
        Fetch a published set that is not there, with the ``medmnist`` package.
    label : str
        One finding of a set with several labels for an image, by its name or number; it stands against all
        images without it.

    Returns
    -------
    Records
        Images of shape (n, 1 or 3, height, width): the parts the file has, in the order train, val, test.

    Raises
    ------
    UserError
        If the folder or file is missing, cannot be downloaded or does not hold what it should.

    Warns
    -----
    UserWarning
        If the file has a published name but not the published MD5, or names no classes and its labels leave a
        number out.
    """
    if _base(name).endswith("3d"):
        raise UserError(
            f"{name} holds volumes, but a model here takes images; save slices, or list the volumes as NIfTI "
            f"files in a table: manifest:FILE(slices=3)"
        )
    if _base(name) == "chestmnist":
        _finding(name, _FINDINGS, label)
    path = _find(name, Path(root), download)
    arrays = read_arrays(path, _KEYS)
    if label or _base(name) == "chestmnist":
        arrays = _one_finding(path, name, arrays, label)
    images = _images(path, arrays)
    sizes = {part: len(block) for part, block in images.items()}
    labels = np.concatenate([_labels(path, arrays, part, n) for part, n in sizes.items()])
    records = Records(
        images=np.ascontiguousarray(np.concatenate(list(images.values()))),
        labels=labels,
        classes=_classes(path, name, arrays, labels),
        facts={fact: _fact(path, arrays, fact, sizes) for fact in _FACTS if _holds(arrays, fact)},
        parts=np.repeat(list(sizes), list(sizes.values())),
        source=f"medmnist:{name}",
    )
    _compare_md5(name, path)
    return records


def _one_finding(
    path: Path, name: str, arrays: dict[str, NDArray[Any]], label: str
) -> dict[str, NDArray[Any]]:
    """Return the arrays with one of the columns of labels, and two classes: without and with the finding."""
    given = arrays.get("classes")
    names = [str(one) for one in given] if given is not None else _FINDINGS
    blocks = {key: block for key, block in arrays.items() if key.endswith("_labels")}
    columns = {block.shape[1] if block.ndim == 2 else 1 for block in blocks.values()}
    if columns != {len(names)} or len(names) < 2:
        raise UserError(
            f"{path}: its labels have {sorted(columns)} columns, so there is no finding to choose"
        )
    finding = _finding(name, names, label)
    chosen = {key: block[:, names.index(finding)] for key, block in blocks.items()}
    return {**arrays, **chosen, "classes": np.array([f"no {finding}", finding])}


def _finding(name: str, names: list[str], label: str) -> str:
    """Return the name of a finding that is given by name or number."""
    if label.isdigit() and int(label) < len(names):
        return names[int(label)]
    if label not in names:
        wanted = f"'{label}' is none of them; {nearest(label, names)}" if label else ", ".join(names)
        raise UserError(
            f"{name} is multi-label, with several findings for an image: choose one against the rest, as in "
            f"medmnist:{name}(label={names[0]}); {wanted}"
        )
    return label


def _base(name: str) -> str:
    return re.sub(r"_(64|128|224)$", "", name)


def _holds(arrays: Mapping[str, NDArray[Any]], what: str) -> bool:
    return any(f"{part}_{what}" in arrays for part in _PARTS)


def _find(name: str, root: Path, download: bool) -> Path:
    if not root.is_dir():
        raise UserError(f"the data root {root} is not a folder; name the one with the .npz files")
    path = root / f"{name}.npz"
    if not path.exists() and download:
        _download(name, path)
    elif not path.exists():
        near = nearest(name, (file.stem for file in root.glob("*.npz")))
        raise UserError(f"there is no {path} ({near}); a published MedMNIST set is fetched with --download")
    return path


def _download(name: str, path: Path) -> None:
    if name not in _MD5:
        raise UserError(f"'{name}' is not a published 2D MedMNIST set to download; {nearest(name, _MD5)}")
    try:
        package = import_module("medmnist")  # late: it is optional, and makes a folder in the user's home
    except ImportError as error:
        raise UserError(f"to download {name}, first run: pip install medmnist") from error
    try:
        dataset = getattr(package, package.INFO[_base(name)]["python_class"])
        dataset(split="train", root=str(path.parent), download=True, size=int((name + "_28").split("_")[1]))
    except Exception as error:  # it raises whatever its own dependencies raise
        path.unlink(missing_ok=True)  # it leaves half a file behind, which the next run would find
        raise UserError(
            f"{name} could not be downloaded ({type(error).__name__}); check the network, or fetch "
            f"{path.name} from https://zenodo.org/records/10519652 and put it into {path.parent}"
        ) from error


def _images(path: Path, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.uint8]]:
    parts = [part for part in _PARTS if f"{part}_images" in arrays or f"{part}_labels" in arrays]
    lacking = {f"{part}_{what}" for part in parts for what in ("images", "labels")} - arrays.keys()
    if lacking or not parts:
        wanted = " and ".join(sorted(lacking)) or "train_images and train_labels"
        raise UserError(f"{path} lacks {wanted}; add them under those names, as MedMNIST's files have them")
    images = {part: _image_block(path, f"{part}_images", arrays[f"{part}_images"]) for part in parts}
    if len({block.shape[1:] for block in images.values()}) > 1:
        raise UserError(f"{path}: images differ in size or channels from part to part; make them all alike")
    if not any(map(len, images.values())):
        raise UserError(f"{path} holds no image; choose a file with some")
    return images


def _image_block(path: Path, key: str, block: NDArray[Any]) -> NDArray[np.uint8]:
    if block.dtype != np.uint8:
        nan = " with NaN" if block.dtype.kind == "f" and np.isnan(block).any() else ""
        raise UserError(f"{path}: {key} are {block.dtype}{nan}; store them as uint8 grey levels, 0 to 255")
    stacked = block[..., None] if block.ndim == 3 else block
    if stacked.ndim == 5 or stacked.ndim == 4 and stacked.shape[-1] not in (1, 3) and stacked.shape[-1] > 4:
        raise UserError(
            f"{path}: {key} have shape {block.shape}, which are volumes; save slices, or list the volumes as "
            f"NIfTI files in a table: manifest:FILE(slices=3)"
        )
    if stacked.ndim != 4 or stacked.shape[-1] not in (1, 3) or 0 in stacked.shape[1:]:
        raise UserError(
            f"{path}: {key} have shape {block.shape}, not (n, height, width) or RGB; reshape them"
        )
    return np.moveaxis(stacked, -1, 1)


def _column(path: Path, key: str, column: NDArray[Any], length: int) -> NDArray[Any]:
    flat = column[:, 0] if column.ndim == 2 and column.shape[1] == 1 else column
    if flat.ndim > 1:
        raise UserError(
            f"{path}: {key} has shape {column.shape} (multi-label?); give one value per image, or choose "
            f"one finding of those in 'classes': (label=NAME)"
        )
    if flat.shape != (length,):
        raise UserError(f"{path}: {key} has {flat.size} entries for {length} images; give each image one")
    return flat


def _labels(path: Path, arrays: Mapping[str, NDArray[Any]], part: str, length: int) -> NDArray[np.int64]:
    column = _column(path, f"{part}_labels", arrays[f"{part}_labels"], length)
    if column.dtype.kind not in "iu":
        raise UserError(f"{path}: {part}_labels are {column.dtype}; store class numbers as integers from 0")
    return column.astype(np.int64)


def _fact(
    path: Path, arrays: Mapping[str, NDArray[Any]], fact: str, sizes: dict[str, int]
) -> NDArray[np.str_]:
    blocks = []
    for part, length in sizes.items():
        key = f"{part}_{fact}"
        column = _column(path, key, arrays.get(key, np.full(length, "")), length)
        blocks.append(_texts(path, key, column))
    column = np.concatenate(blocks)
    return np.where(column == "nan", "", column)  # a missing number, not a hospital of that name


def _texts(path: Path, key: str, column: NDArray[Any]) -> NDArray[np.str_]:
    """Return a column as texts; refuse what is no text, or none that a name has."""
    if column.dtype.kind not in "USbiuf":
        raise UserError(f"{path}: {key} is {column.dtype}; store texts or numbers")
    try:
        texts = np.char.decode(column, "utf-8") if column.dtype.kind == "S" else column.astype(np.str_)
    except UnicodeDecodeError:
        raise UserError(f"{path}: {key} holds bytes that are not UTF-8 text; store texts") from None
    codes = np.ascontiguousarray(texts).view(np.uint32)
    if ((codes > 0x10FFFF) | ((codes >= 0xD800) & (codes <= 0xDFFF))).any():
        raise UserError(f"{path}: {key} holds letters that are no Unicode text; store the names again")
    if texts.size and np.char.str_len(texts).max() > LONGEST_NAME:
        raise UserError(f"{path}: {key} holds a text of more than {LONGEST_NAME} letters; give short names")
    return texts


def _classes(
    path: Path, name: str, arrays: Mapping[str, NDArray[Any]], labels: NDArray[np.int64]
) -> tuple[str, ...]:
    names = _CLASSES.get(_base(name))
    if names is None and "classes" in arrays:
        if arrays["classes"].ndim != 1 or arrays["classes"].dtype.kind != "U":
            raise UserError(f"{path}: classes are not a list of text; save np.array(['first', 'second'])")
        names = tuple(_texts(path, "classes", arrays["classes"]).tolist())
    # Without names, more classes than images is a mistake: refuse it before making a name for each.
    known = min(len(labels), MOST_CLASSES) if names is None else len(names)
    if known > MOST_CLASSES:
        raise UserError(f"{path}: {known} classes are more than the {MOST_CLASSES} that a model may have")
    if labels.min() < 0 or labels.max() >= known:
        raise UserError(
            f"{path}: labels run from {labels.min()} to {labels.max()}, but must lie in 0 to {known - 1}; "
            "correct them or the classes"
        )
    if names is None:
        _note_empty_classes(path, labels)
    return names or tuple(f"class {number}" for number in range(labels.max() + 1))


def _note_empty_classes(path: Path, labels: NDArray[np.int64]) -> None:
    """Warn where labels do not run from 0 without a gap: each number left out is a class without images."""
    found = np.unique(labels)
    empty = int(labels.max()) + 1 - len(found)
    if empty:
        listed = ", ".join(str(label) for label in found[:10]) + (", ..." if len(found) > 10 else "")
        warnings.warn(
            f"{path}: the labels are {listed}, so of the classes 0 to {labels.max()} {empty} "
            f"{'has' if empty == 1 else 'have'} no image; number the labels from 0 without a gap, or name "
            f"all classes in the array 'classes'",
            stacklevel=4,
        )


def _compare_md5(name: str, path: Path) -> None:
    if name not in _MD5:
        return
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != _MD5[name]:
        warnings.warn(
            f"{path}: its MD5 {found} is not the published {_MD5[name]}, so results are not comparable with "
            "published ones",
            stacklevel=3,
        )
