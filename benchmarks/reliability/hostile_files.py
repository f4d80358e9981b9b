"""Hostile files and texts, drawn by hypothesis: a reader of them ends with a result or with one sentence."""

from __future__ import annotations

import io
import json
import struct
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
from hypothesis import strategies as st

from fedrobust.data.sources import prepare
from fedrobust.data.spec import DataSpec
from fedrobust.errors import UserError
from fedrobust.plugins import PluginSpec
from fedrobust.printing import one_line
from fedrobust.scenario import Scenario
from fedrobust.settings import Settings, load_settings
from fedrobust.suites.plan import plan
from fedrobust.suites.suite_files import load_suite

__all__ = [
    "archives",
    "attempt",
    "damaged",
    "json_values",
    "read_archive",
    "read_settings",
    "read_suite",
    "settings_files",
    "suite_files",
]

#: Letters of a refusal, as it is printed.
SENTENCE = 2200

KEYS = [name.replace("_", "-") for name in Settings.model_fields]


def attempt(read: Callable[[], object]) -> str:
    """Return the sentence that a reader refuses with; empty if it succeeds. Anything else is raised."""
    try:
        read()
    except UserError as error:
        text = one_line(error)
        control = any(unicodedata.category(letter) in ("Cc", "Cs") for letter in text)
        assert text.strip() and len(text) <= SENTENCE and not control, f"no sentence: {text!r}"
        return text
    return ""


# Settings and suites.

_NUMBERS = st.one_of(
    st.integers(-3, 12), st.integers(), st.floats(), st.sampled_from([2**63, 10**400, 1e308, 5e-324, -0.0])
)
_CALLS = st.builds(
    "{}({})".format,
    st.sampled_from(["krum", "phantom", "dirichlet", "label-flip", "multi-krum", "isolation-forest", "x:Y"]),
    st.sampled_from(
        [
            "",
            "f=1",
            "f=1e999",
            "alpha=0.3",
            "images=10**9",
            "images=1000000000000",
            "size=16",
            "f='",
            "((" * 90,
        ]
    ),
)
_TEXTS = st.one_of(
    st.text(max_size=30),
    _CALLS,
    st.sampled_from(
        ["", "phantom", "medmnist:../x", "medmnist:/etc/x", "iid", "fedavg", "nnm | krum", "label-flip:2",
         "a\0b", "\x1b[2J", "[/red]", "~", "/dev/zero", "x" * 20_000, "{x}", "medmnist:a b", "a.b:C"]
    ),
)  # fmt: skip
_PLAIN = st.one_of(_NUMBERS, st.booleans(), _TEXTS)
_VALUES = st.recursive(
    _PLAIN,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_SETTINGS = st.one_of(
    st.dictionaries(st.sampled_from(KEYS), _PLAIN, min_size=1, max_size=2),
    st.dictionaries(st.sampled_from(KEYS), _VALUES, max_size=5),
    st.dictionaries(st.text(max_size=8), _VALUES, max_size=3),
)
_SUITES = st.fixed_dictionaries(
    {},
    optional={
        "title": _VALUES,
        "seeds": st.one_of(st.lists(st.integers(-1, 3), max_size=3), _VALUES),
        "base": st.one_of(_SETTINGS, _VALUES),
        "axes": st.one_of(
            st.dictionaries(st.sampled_from([*KEYS, "model", "x"]), _VALUES, max_size=2), _VALUES
        ),
        "threats": st.one_of(st.dictionaries(st.text(max_size=5), _TEXTS, max_size=2), _VALUES),
        "defences": st.one_of(st.dictionaries(st.text(max_size=5), _TEXTS, max_size=2), _VALUES),
        "reference": _VALUES,
        "metric": _VALUES,
        "method-axis": _VALUES,
        "budget-axis": _VALUES,
        "drop": _VALUES,
        "budget-minutes": _VALUES,
        "odd": _VALUES,
    },
)


def damaged(content: bytes) -> st.SearchStrategy[bytes]:
    """Return a strategy for the content with a few bytes changed, cut, doubled or added."""

    def apply(changes: list[tuple[int, str, bytes]]) -> bytes:
        made = content
        for position, kind, more in changes:
            place = position % (len(made) + 1)
            if kind == "change":
                made = made[:place] + more + made[place + len(more) :]
            elif kind == "cut":
                made = made[:place]
            elif kind == "double":
                made = made[:place] + made[max(0, place - 40) :]
            else:
                made = made[:place] + more + made[place:]
        return made

    change = st.tuples(
        st.integers(0, 1 << 20),
        st.sampled_from(["change", "change", "add", "double", "cut"]),
        st.binary(min_size=1, max_size=6)
        | st.sampled_from([b'"', b"[", b"=", b"\n", b"\0", b"\xff", b"[" * 3000]),
    )
    return st.lists(change, min_size=1, max_size=4).map(apply)


def _toml(values: dict[str, Any]) -> bytes:
    return tomli_w.dumps(values).encode("utf-8", "replace")


_SETTINGS_FILE = b'clients = 5\nmalicious = 1\nattack = "sign-flip"\nstrategy = "krum(f=1)"\nlr = 0.01\n'
_SUITE_FILE = (
    b'title = "A suite"\nseeds = [0, 1]\n[base]\npartition = ["iid", "dirichlet(alpha=0.3)"]\n'
    b'[threats]\nnone = []\nflip = "label-flip:2"\n[defences]\nfedavg = "fedavg"\nkrum = "krum(f=2)"\n'
)


def settings_files() -> st.SearchStrategy[bytes]:
    """Return a strategy for TOML files of settings, most of them wrong."""
    return _SETTINGS.map(_toml) | damaged(_SETTINGS_FILE) | st.binary(max_size=60)


def suite_files() -> st.SearchStrategy[bytes]:
    """Return a strategy for suite files, most of them wrong."""
    return _SUITES.map(_toml) | damaged(_SUITE_FILE)


def read_settings(content: bytes, folder: Path) -> None:
    """Read a file of settings up to the scenario that it stands for."""
    file = folder / "hostile.toml"
    file.write_bytes(content)
    Scenario.of(load_settings({}, file))


def read_suite(content: bytes, folder: Path) -> None:
    """Read a suite file up to the list of its cells."""
    file = folder / "hostile_suite.toml"
    file.write_bytes(content)
    suite = load_suite(str(file))
    cells = 1
    for axis in suite.every_axis().values():
        cells *= len(axis)
    if cells * len(suite.seeds) < 50:
        plan(suite, {})


# Images.

#: Texts in place of an array's header: shapes and types that no array has, and programs.
_HEADERS = [
    "{'descr': '|u1', 'fortran_order': False, 'shape': (100000000000, 28, 28), }",
    "{'descr': '|u1', 'fortran_order': False, 'shape': (True, 5, 6), }",
    "{'descr': '|u1', 'fortran_order': False, 'shape': (-4, 5, 6), }",
    "{'descr': '|u1', 'fortran_order': False, 'shape': (4.0, 5, 6), }",
    "{'descr': '|u1', 'fortran_order': False, 'shape': (2**40,), }",
    "{'descr': '|O', 'fortran_order': False, 'shape': (4, 5, 6), }",
    "{'descr': '<U1000000000', 'fortran_order': False, 'shape': (4,), }",
    "{'descr': '|V8', 'fortran_order': False, 'shape': (4,), }",
    "{'descr': [('a', '|u1'), ('b', '<f8')], 'fortran_order': False, 'shape': (4, 5, 6), }",
    "{'descr': '<f8', 'fortran_order': True, 'shape': (), }",
    "{'descr': '<M8[ns]', 'fortran_order': False, 'shape': (4,), }",
    "{'descr': __import__('os').getcwd(), 'fortran_order': False, 'shape': (4,), }",
    "{'descr': '|u1', 'fortran_order': False, 'shape': " + "(" * 4000,
    "(" * 9000,
    "",
    "\\",
    "{'shape': (4,)}",
    "{'descr': '|u1', 'fortran_order': False, 'shape': (4, 5, 6), 'more': 1}",
]


def _npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def _with_header(header: str, content: bytes) -> bytes:
    text = header.encode("latin1") + b"\n"
    return b"\x93NUMPY\x02\x00" + struct.pack("<I", len(text)) + text + content


_GOOD = {
    "train_images": np.arange(40 * 30, dtype=np.uint8).reshape(40, 5, 6),
    "train_labels": np.arange(40) % 3,
    "train_site": np.array([f"site {k % 2}" for k in range(40)]),
    "classes": np.array(["a", "b", "c"]),
}
_ODD_ARRAYS = st.sampled_from(
    [
        np.array([b"\xff\xfe"] * 40), np.array([b"north"] * 40), np.array(["\ud800"] * 40),
        np.array([b"xx"] * 40).view("V2"), np.array([None] * 40), np.array(["x" * 5000] * 40),
        np.zeros(40, bool), np.array([b"xx"] * 40),
        np.array(["\x1b[2J", "<b>"] * 20), np.full(40, np.nan), np.zeros((40, 0)), np.zeros(40, "M8[s]"),
        np.arange(40) * 10**12, np.zeros((40, 1, 1), np.uint8), np.zeros((40, 700, 700), np.uint8),
        np.array(["a", "a"]), np.array([""]), np.array([str(k) for k in range(2000)]), np.zeros(40, ">i8"),
        np.zeros((40, 3, 2, 3), np.uint8), np.zeros((0, 5, 6), np.uint8), np.array(7), np.zeros(40, "c16"),
        np.zeros(40, [("a", "i4")]), np.array([0, 1] * 20, ">u2"), np.full(40, 2**63, np.uint64),
    ]
)  # fmt: skip


def _archive(parts: dict[str, bytes], method: int, twice: bool = False) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for key, content in parts.items():
            archive.writestr(f"{key}.npy", content)
        if twice:
            archive.writestr("train_labels.npy", _npy(np.zeros(40, int)))
    return stream.getvalue()


_PARTS = {key: _npy(array) for key, array in _GOOD.items()}
_MEMBERS = st.one_of(
    _ODD_ARRAYS.map(_npy),
    _ODD_ARRAYS.map(_npy),
    st.builds(_with_header, st.sampled_from(_HEADERS), st.binary(max_size=40)),
    st.sampled_from(list(_PARTS.values())).flatmap(damaged),
)


def archives() -> st.SearchStrategy[bytes]:
    """Return a strategy for ``.npz`` files, most of them wrong."""
    changed = st.dictionaries(
        st.sampled_from([*_GOOD, "test_images", "test_labels", "val_sex"]), _MEMBERS, min_size=1, max_size=2
    ).map(lambda more: _PARTS | more)
    made = st.builds(_archive, changed, st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
    odd = st.sampled_from(
        [
            _archive(_PARTS, zipfile.ZIP_BZIP2),
            _archive(_PARTS, zipfile.ZIP_LZMA),
            _archive(_PARTS, zipfile.ZIP_DEFLATED, twice=True),
        ]
    )
    return made | made | odd | damaged(_archive(_PARTS, zipfile.ZIP_DEFLATED))


def read_archive(content: bytes, folder: Path) -> None:
    """Read a file of images, split it and deal it out by site."""
    (folder / "hostile.npz").write_bytes(content)
    for partition in ("iid", "site"):
        spec = DataSpec(
            source=PluginSpec.parse("medmnist:hostile"),
            root=str(folder),
            hospitals=2,
            partition=PluginSpec.parse(partition),
            seed=0,
        )
        _forget()
        prepare(spec)


def _forget() -> None:
    """Let the next file of the same name be read."""
    from fedrobust.data import sources

    sources._prepared.clear()


# Run folders.


def json_values() -> st.SearchStrategy[Any]:
    """Return a strategy for what may stand in place of any value of a JSON file."""
    return st.recursive(
        st.one_of(
            st.none(), st.booleans(), _NUMBERS.filter(lambda value: abs(value) < 1e300),
            st.text(max_size=20), st.sampled_from(["<b>", "../../etc/x", "\x1b[2J", "=1+1", 100_000_000]),
        ),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=5,
    )  # fmt: skip


def replaced(text: str, place: int, value: Any) -> str:
    """Return a JSON text with one of its values replaced."""
    tree = json.loads(text)
    places = [(None, None), *_places(tree)]
    holder, key = places[place % len(places)]
    if holder is None:
        return json.dumps(value)
    holder[key] = value
    return json.dumps(tree)


def _places(tree: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        found += [(tree, key), *_places(value)]
    return found
