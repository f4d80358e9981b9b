"""The frame of a report: self-contained, runs its own scripts only, and escapes users' names."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
import zlib
from html.parser import HTMLParser

import pytest
from markupsafe import Markup

from fedrobust.reports import page
from fedrobust.reports.page import embed, environment, render
from fedrobust.reports.tables import Column, Table, number

HOSTILE = "</script><img src=x onerror=alert(1)><!--\u2028&amp;"


class Elements(HTMLParser):
    """Collects a page's start tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def figure(**layout: object) -> dict[str, object]:
    return {"data": [{"type": "scatter", "x": [1, 2], "y": [1, 2]}], "layout": layout}


def part(source: str, **context: object) -> str:
    text = '{% import "parts.html.j2" as parts %}' + source
    return environment().from_string(text).render(**context)


def test_page_is_self_contained_and_loads_nothing() -> None:
    text = render("base.html.j2", plots={"one": figure()})
    elements = Elements(text)
    (html,) = elements.all("html")
    assert html["lang"] == "en"
    assert len(elements.all("main")) == len(elements.all("header")) == len(elements.all("footer")) == 1
    assert elements.all("a")[0]["href"] == "#main"
    # No address is loaded: no src, and no link but the empty icon.
    assert [a["href"] for a in elements.all("link")] == ["data:,"]
    assert not [a for _, a in elements.found if "src" in a]
    assert not re.search(r"@import|url\(", text[: text.index("<script")])


def test_page_policy_allows_only_scripts_with_a_listed_hash() -> None:
    text = render("base.html.j2", plots={"one": figure()})
    policy = next(
        a["content"] for a in Elements(text).all("meta") if a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None and policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy.split("style-src")[0]
    plain = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    packed = re.search(r'<script type="text/plain" id="plotly">(.*?)</script>', text, re.DOTALL)
    assert packed is not None
    library = zlib.decompress(base64.b64decode(packed[1]))
    assert library.startswith(b"/**\n* plotly.js")
    for script in (*(code.encode() for code in plain), library):
        assert base64.b64encode(hashlib.sha256(script).digest()).decode() in policy


def test_page_without_plots_has_no_plotly() -> None:
    text = render("base.html.j2")
    assert len(text) < 60_000 and 'id="plotly"' not in text


def test_plotly_is_found_without_importing_it() -> None:
    code = (
        "import sys; from fedrobust.reports.page import render; render('base.html.j2', plots={'a': {}}); "
        "print(sorted({'plotly', 'torch', 'pandas', 'sklearn', 'flwr'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_embedded_data_cannot_end_their_element() -> None:
    value = {HOSTILE: [HOSTILE, float("nan"), 1.5, None]}
    text = str(embed(value))
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {HOSTILE: [HOSTILE, None, 1.5, None]}
    page = render("base.html.j2", data={"names": [HOSTILE]})
    assert not Elements(page).all("img") and "<!--" not in page


def test_embedded_data_and_plots_can_be_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "plotly", lambda: ("", ""))
    text = render("base.html.j2", plots={"one": figure(height=200)}, data={"rows": [1, 2]})
    found = re.search(r'<script type="application/json" id="embedded">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    assert json.loads(found[1]) == {"plots": {"one": figure(height=200)}, "rows": [1, 2]}


def test_table_has_headings_sort_values_and_escaped_cells() -> None:
    table = Table(
        "Shares",
        ["name", Column("share", 2), Column("lost", 1, "%")],
        [[HOSTILE, 0.126, -3.04], ["b", None, 2]],
    )
    text = part("{{ parts.table(t) }}", t=table)
    elements = Elements(text)
    assert not elements.all("img")
    assert [a["scope"] for a in elements.all("th")] == ["col", "col", "col", "row", "row"]
    assert [a["data-value"] for a in elements.all("td")] == ["0.126", "-3.04", "", "2.0"]
    assert ">0.13</td>" in text and ">−3.0 %</td>" in text and ">–</td>" in text
    (box,) = elements.all("div")
    assert box["role"] == "region" and box["tabindex"] == "0" and box["aria-label"] == "Shares"


def test_plot_has_a_caption_its_numbers_and_a_choice() -> None:
    plots = {"one": {"choices": {"accuracy": figure(height=240), "macro F1": figure()}}}
    text = part(
        '{{ parts.plot("one", plots, "What it shows", t) }}',
        plots=plots,
        t=Table("Numbers", ["a"], [[1]]),
    )
    elements = Elements(text)
    (plot,) = (a for a in elements.all("div") if "data-plot" in a)
    assert plot["aria-labelledby"] == "one-caption" and plot["style"] == "min-height: 240px"
    assert elements.all("figcaption")[0]["id"] == "one-caption"
    assert len(elements.all("option")) == 2 and elements.all("label")[0]["for"] == "one-choice"
    assert elements.all("details")


@pytest.mark.parametrize(
    ("value", "digits", "unit", "text"),
    [
        (None, 2, "%", "–"),
        (float("nan"), 2, "", "–"),
        (True, None, "", "yes"),
        (0.12345, 3, "", "0.123"),
        (-1.5, 1, "%", "−1.5 %"),
        (3, None, "", "3"),
        ("a", 2, "%", "a"),
    ],
)
def test_number_is_written_with_digits_and_unit(
    value: object, digits: int | None, unit: str, text: str
) -> None:
    assert number(value, digits, unit) == text


def test_template_escapes_unless_told_not_to() -> None:
    assert environment().from_string("{{ a }}{{ b }}").render(a="<", b=Markup("<")) == "&lt;<"
