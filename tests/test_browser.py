"""A run's page in Chromium: drawn, sortable, reachable by keyboard, at both widths, light and dark."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browser import DESK, PHONE, Visit, launch
from run_folders import make_run

from fedrobust.report import write_report

HOSTILE = "</script>\u202e\x1b[2J<img src=x onerror=alert(1)>"

Open = Callable[..., Visit]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the page of a run with attackers, an atypical hospital and poisoned images."""
    return write_report(make_run(tmp_path_factory.mktemp("run"), atypical={2: "other-scanner"}, rounds=8))


@pytest.fixture(scope="module")
def desk(page: Path, chromium: Any) -> Visit:
    """Return the page, opened once for the tests that leave it as it is but for a choice or an order."""
    made = Visit(chromium.new_page(viewport={"width": DESK, "height": 900}), page.parent)
    made.page.on("pageerror", lambda error: made.errors.append(str(error)))
    made.page.goto(page.as_uri())
    made.page.evaluate("fedrobust.ready")
    return made


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, DESK])
def test_run_page_is_drawn_without_errors_or_overflow(
    page: Path, visit: Open, width: int, scheme: str
) -> None:
    made = visit(page, width, scheme)
    made.hold_whole()
    assert len(made.plots()) == 11
    made.shot(f"run-{width}-{scheme}")
    # Nor with every table opened.
    made.page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    made.hold_whole()
    background = made.page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    bright = sum(map(int, re.findall(r"\d+", background)[:3])) / 3
    assert (bright > 200) if scheme == "light" else (bright < 60)


@pytest.mark.parametrize(
    "shape",
    [
        {"clients": 1, "attacks": {}, "rounds": 1},
        {
            "clients": 100,
            "classes": [f"{HOSTILE} {k}" for k in range(20)],
            "attacks": {0: HOSTILE},
            "rounds": 30,
        },
        {"verdicts": False, "strategy": "flwr.serverapp.strategy:FedMedian", "examples": False},
    ],
    ids=["one hospital", "a hundred with hostile names", "no verdicts"],
)
@pytest.mark.parametrize("width", [PHONE, DESK])
def test_run_page_of_other_shapes_is_drawn(
    shape: dict[str, Any], width: int, visit: Open, tmp_path: Path
) -> None:
    made = visit(write_report(make_run(tmp_path / "run", **shape)), width)
    made.hold_whole()
    # A name that became markup would have asked for an image, or opened a dialogue.
    assert made.page.locator("img[src=x]").count() == 0
    # Nor does one change the direction of what follows it.
    assert "\u202e" not in made.page.evaluate("document.documentElement.innerText")
    made.shot(f"run-{shape.get('clients', 6)}-hospitals-{width}")


def test_labels_show_names_as_text(visit: Open, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", classes=["<b>a</b> & b", "plain"], attacks={})
    made = visit(write_report(run))
    ticks = made.page.locator("#confusion-clean .ytick text").all_text_contents()
    assert "<b>a</b> & b" in ticks


def test_metric_choice_changes_the_plot(desk: Visit) -> None:
    made = desk
    choice = made.page.get_by_label("Metric")
    assert choice.locator("option").all_text_contents()[:2] == ["accuracy", "balanced accuracy"]
    choice.select_option("AUROC")
    made.page.locator("#curves .ytitle", has_text="AUROC").wait_for()
    made.hold_whole()


def test_table_sorts_by_number_and_back_by_keyboard(desk: Visit) -> None:
    made = desk
    table = made.page.locator("table", has=made.page.locator("caption", has_text="verdict")).first
    heading = table.get_by_role("columnheader", name="last weight")
    weights = table.locator("tbody tr td:nth-child(4)")
    heading.get_by_role("button").focus()
    made.page.keyboard.press("Enter")
    assert heading.get_attribute("aria-sort") == "ascending"
    rising = [float(text) for text in weights.all_text_contents()]
    assert rising == sorted(rising) and rising[0] < 0.5 < rising[-1]
    made.page.keyboard.press("Space")
    assert heading.get_attribute("aria-sort") == "descending"
    assert [float(text) for text in weights.all_text_contents()] == rising[::-1]
    # Numbers that are not there stay last both ways.
    first = table.get_by_role("columnheader", name="first flagged")
    for _ in range(2):
        first.get_by_role("button").click()
        assert table.locator("tbody tr td:nth-child(6)").all_text_contents()[-1] == "–"
    assert heading.get_attribute("aria-sort") is None


def test_theme_button_changes_page_and_plots(page: Path, visit: Open) -> None:
    made = visit(page, scheme="dark")
    ink = "getComputedStyle(document.querySelector('#curves .xtick text')).fill"
    before = made.page.evaluate(ink)
    made.page.get_by_role("button", name="Light colours").click()
    made.page.wait_for_function("document.getElementById('curves').dataset.drawn === 'light'")
    assert made.page.evaluate(ink) != before
    # Nothing is remembered: neither cookies nor storage.
    assert made.page.evaluate("document.documentElement.dataset.theme") == "light"
    assert made.page.evaluate("localStorage.length + sessionStorage.length") == 0
    made.hold_whole()


def test_keyboard_focus_is_ordered_and_visible(page: Path, visit: Open) -> None:
    made = visit(page)
    seen = []
    for _ in range(40):
        made.page.keyboard.press("Tab")
        found = made.page.evaluate(
            """() => { const at = document.activeElement; const style = getComputedStyle(at);
                return [at.textContent.trim().slice(0, 20) || at.id, style.outlineStyle !== "none"]; }"""
        )
        seen.append(found)
    names = [name for name, _ in seen]
    assert names[:2] == ["Skip to the content", "Dark colours"]
    assert names.index("Rounds") < names.index("Provenance") < names.index("The numbers as a tab")
    assert all(outlined for _, outlined in seen)
    made.page.keyboard.press("Shift+Tab")
    assert made.errors == []


def test_screen_reader_finds_landmarks_headings_and_names(desk: Visit) -> None:
    made = desk
    for role in ("banner", "main", "contentinfo"):
        assert made.page.get_by_role(role).count() == 1
    assert made.page.get_by_role("navigation", name="Contents").count() == 1
    assert made.page.get_by_role("heading", level=1).count() == 1
    assert made.page.get_by_role("heading", level=2).count() == 14
    assert made.page.get_by_role("group", name="The global model after each round").count() == 1
    unnamed = made.page.evaluate(
        """() => [...document.querySelectorAll("button, select, a, img, summary")].filter((one) =>
            one.checkVisibility() &&
            !(one.textContent.trim() || one.ariaLabel || one.alt || one.labels?.length))
            .map((one) => one.outerHTML.slice(0, 120))"""
    )
    assert unnamed == []


def test_text_has_enough_contrast(desk: Visit) -> None:
    for scheme in ("light", "dark"):
        ratios = desk.page.evaluate(
            """(scheme) => {
                document.documentElement.dataset.theme = scheme;
                const style = getComputedStyle(document.documentElement);
                const light = (name) => {
                    const hex = style.getPropertyValue(name).trim().slice(1);
                    const parts = [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16) / 255);
                    const linear = (v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
                    const [r, g, b] = parts.map(linear);
                    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
                };
                const ratio = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
                const pairs = {};
                for (const text of ["--ink", "--muted", "--accent", "--bad", "--good"])
                    for (const ground of ["--paper", "--surface", "--shade"])
                        pairs[`${text} on ${ground}`] = ratio(light(text), light(ground));
                delete document.documentElement.dataset.theme;
                return pairs;
            }""",
            scheme,
        )
        assert len(ratios) == 15
        assert min(ratios.values()) >= 4.5, ratios


def test_copy_button_copies_the_settings(page: Path, visit: Open) -> None:
    made = visit(page, permissions=["clipboard-read", "clipboard-write"])
    made.page.get_by_role("button", name="Copy the settings").click()
    made.page.get_by_role("button", name="Copied").wait_for()
    assert 'strategy = "isolation-forest"' in made.page.evaluate("navigator.clipboard.readText()")


def test_page_without_scripts_shows_its_tables(page: Path, chromium: Any, artefacts: Path) -> None:
    # Playwright's own switch leaves <noscript> hidden.
    browser = launch(chromium.browser_type, "--blink-settings=scriptEnabled=false")
    made = Visit(browser.new_page(viewport={"width": PHONE, "height": 900}), artefacts)
    made.page.goto(page.as_uri())
    assert made.page.locator("main noscript p").is_visible()
    assert made.page.locator("h1").is_visible()
    made.page.locator("summary").first.click()
    assert made.page.locator("table").first.is_visible()
    # Nothing is left that would need a script: no empty plots, no dead buttons.
    assert not made.page.locator("[data-plot]").first.is_visible()
    for dead in ("#theme", "select", "button[data-copy]"):
        assert not made.page.locator(dead).first.is_visible()
    made.shot("run-without-scripts")
    browser.close()


def test_old_browser_says_why_there_are_no_plots(page: Path, chromium: Any, artefacts: Path) -> None:
    context = chromium.new_context(offline=True)
    context.add_init_script("delete window.DecompressionStream")
    made = Visit(context.new_page(), artefacts)
    made.page.on("pageerror", lambda error: made.errors.append(str(error)))
    made.page.goto(page.as_uri())
    made.page.evaluate("fedrobust.ready")
    note = made.page.locator("#no-plots")
    assert note.is_visible() and "too old" in (note.text_content() or "")
    assert made.page.locator("details[open]").count() > 5
    assert made.errors == []
    context.close()


def test_injected_script_cannot_run(page: Path, visit: Open, tmp_path: Path) -> None:
    foreign = tmp_path / "report.html"
    text = page.read_text(encoding="utf-8")
    image = "<img src='https://example.org/x.png' onerror='document.title = 1'>"
    injected = f"<script>document.title = 'owned'</script>{image}"
    foreign.write_text(text.replace("<h1>", injected + "<h1>"), encoding="utf-8")
    made = visit(foreign)
    assert made.page.title() not in ("owned", "1")
    assert any("Content Security Policy" in error for error in made.errors)
