"""The frame of every report: one HTML file that holds its style, scripts, data and plotly.js.

Its Content-Security-Policy allows no network and only scripts with the listed hashes: names of classes and
attacks come from users' files, and none of them can become a script.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from fedrobust.errors import UserError
from fedrobust.printing import lines
from fedrobust.reports.palette import Plots
from fedrobust.reports.tables import FILTERS
from fedrobust.results.files import plain

__all__ = ["embed", "environment", "render"]

_HERE = Path(__file__).parent

#: Level 5 compresses plotly.js in 0.1 s to 1 % more than level 9 does in twice that.
_LEVEL = 5


@cache
def environment() -> jinja2.Environment:
    """Return the Jinja2 environment of the templates; all texts they print are escaped and printable."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        finalize=_printable,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(FILTERS)
    return made


def _printable(value: object) -> object:
    """Return a text as a page can show it; what is markup already stays."""
    return lines(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def render(
    template_name: str,
    *,
    plots: Plots | None = None,
    data: Mapping[str, object] | None = None,
    scripts: Sequence[str] = (),
    styles: Sequence[str] = (),
    **context: Any,
) -> str:
    """Return a page.

    Parameters
    ----------
    template_name : str
        A template that extends ``base.html.j2``.
    plots : mapping, optional
        Element id to plot, or to ``{"choices": {choice: plot}}`` where a ``<select>`` chooses one.
        A page without plots does not hold plotly.js.
    data : mapping, optional
        Whatever else the page's own scripts read, as ``fedrobust.data``.
    scripts, styles : sequence of str
        Names of files in ``assets/`` beside ``base.js`` and ``base.css``.
    **context
        For the template.
    """
    plots = plots or {}
    script, digest = plotly() if plots else ("", "")
    texts = [_asset("base.js"), *map(_asset, scripts)]
    hashes = [*map(_hash, texts), *([digest] if digest else [])]
    return (
        environment()
        .get_template(template_name)
        .render(
            policy=_policy(hashes),
            style=Markup("\n".join(map(_asset, ("base.css", *styles)))),
            scripts=[Markup(text) for text in texts],
            plotly=Markup(script),
            plots=plots,
            embedded=embed({"plots": plots, **(data or {})}),
            **context,
        )
    )


def embed(value: Any) -> Markup:
    """Return a value as JSON that cannot end its ``<script>``, whatever names it holds; NaN becomes null."""
    text = json.dumps(plain(value), separators=(",", ":"), allow_nan=False)
    # Non-ASCII letters are \uXXXX already. These could end the element or open a comment.
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(text)


@cache
def plotly() -> tuple[str, str]:
    """Return the installed plotly.js, deflated and in base64, and the hash of its text for the policy."""
    # `find_spec` imports nothing; the package takes longer to import than the whole page to make.
    spec = find_spec("plotly")
    folder = Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else Path()
    file = folder / "package_data" / "plotly.min.js"
    if not file.is_file():
        raise UserError("the report needs plotly's JavaScript, which is not installed; pip install plotly")
    text = file.read_bytes()
    return base64.b64encode(zlib.compress(text, _LEVEL)).decode("ascii"), _hash_of(text)


@cache
def _asset(name: str) -> str:
    return (_HERE / "assets" / name).read_text(encoding="utf-8").rstrip()


def _policy(hashes: Sequence[str]) -> str:
    """Return the Content-Security-Policy; plotly.js writes style attributes, so inline styles are allowed."""
    scripts = " ".join(f"'{value}'" for value in hashes)
    return (
        f"default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return _hash_of(text.encode("utf-8"))


def _hash_of(content: bytes) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content).digest()).decode("ascii")
