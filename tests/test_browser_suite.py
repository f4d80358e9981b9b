"""The page of a suite in Chromium: plots, the choice of the metric, sorting, links to runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import suite_results
from browser import DESK, PHONE, Visit

from fedrobust.reports.suite.page import suite_page

pytestmark = pytest.mark.slow

Make = Callable[..., Path]


@pytest.fixture
def made(tmp_path: Path) -> Make:
    """Return a function that writes a suite's page, and a page of each of its runs where the links lead.

    Without costs the page holds no plotly.js and opens ten times as fast.
    """

    def make(results: dict[str, Any] | None = None, costs: bool = False) -> Path:
        content = results or suite_results.results()
        folder = tmp_path / "suites" / "mine"
        folder.mkdir(parents=True)
        (folder / "suite.json").write_text(json.dumps(content), encoding="utf-8")
        if costs:
            (folder / "costs.json").write_text(json.dumps(suite_results.costs(content)), encoding="utf-8")
        for run in (cell["run"] for row in content["rows"] for cell in row["cells"] if cell["run"]):
            (folder / run).mkdir(parents=True)
            (folder / run / "report.html").write_text(
                f"<!DOCTYPE html><title>{run}</title>", encoding="utf-8"
            )
        page = folder / "report.html"
        page.write_text(suite_page(folder), encoding="utf-8")
        return page

    return make


def cell(seen: Visit, name: str) -> Any:
    return seen.page.locator(f'#heat button[aria-label^="{name}"]')


def column(seen: Visit, table: str, place: int) -> list[str]:
    """Return a column's texts, from top to bottom."""
    found: list[str] = seen.page.evaluate(
        "([table, place]) => [...document.getElementById(table).tBodies[0].rows]"
        ".filter((row) => !row.hidden)"
        ".map((row) => row.cells[place].childNodes[0]?.textContent.trim() ?? '')",
        [table, place],
    )
    return found


@pytest.mark.parametrize("width", [PHONE, DESK])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_suite_page_is_drawn_at_both_widths_and_themes(
    made: Make, visit: Callable[..., Visit], width: int, scheme: str
) -> None:
    seen = visit(made(costs=True), width, scheme)
    seen.shot(f"suite-{width}-{scheme}")
    seen.hold_whole()
    assert set(seen.plots()) == {"cost"}
    assert seen.page.locator("#forest .point:visible").count() == 4 * 4
    assert seen.page.locator("#forest .whisker").count() == 4 * 4


@pytest.mark.parametrize(
    "options",
    [
        {"threats": ("none", "ipm"), "defences": ("fedavg", "krum", "dnc"), "seeds": (0,)},
        {
            "threats": [f"threat-{number}(scale={number})" for number in range(20)],
            "defences": ["fedavg", *(f"nnm | defence-{number}" for number in range(11))],
        },
        {"threats": ("label-flip", "ipm"), "budgets": ("0", "1", "2"), "splits": ("iid", "site")},
    ],
    ids=["small", "large", "budget"],
)
def test_suite_page_of_any_size_fits(
    made: Make, visit: Callable[..., Visit], options: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    seen = visit(made(suite_results.results(**options), costs=True), PHONE)
    for width in (PHONE, DESK):
        seen.page.set_viewport_size({"width": width, "height": 900})
        seen.page.wait_for_timeout(300)
        seen.shot(f"suite-{request.node.callspec.id}-{width}")
        seen.hold_whole()
        if "budget" in seen.plots():
            # The names of the lines stand above the lines, after a phone is turned as well.
            legend, frame = (
                seen.page.locator(f"#budget {part}").bounding_box() for part in (".legend", ".nsewdrag")
            )
            assert legend["y"] + legend["height"] <= frame["y"] + 2


def test_metric_choice_changes_the_map(made: Make, visit: Callable[..., Visit]) -> None:
    seen = visit(made())
    before = cell(seen, "krum under label-flip").text_content()
    colour = "element => getComputedStyle(element.parentElement).backgroundColor"
    assert seen.page.locator("#heat td.none").count() == 0
    worst = cell(seen, "fedavg under ipm(scale=2)")
    strong = worst.evaluate(colour)
    seen.page.select_option("#map-metric", "ece")
    assert cell(seen, "krum under label-flip").text_content() != before
    assert "Lower is better; a stronger colour is a higher" in seen.page.text_content("#map-sense")
    # Worst by either metric: the same strength although one is the lowest and the other the highest figure.
    assert worst.evaluate(colour) == strong
    assert seen.page.text_content("#scale-best").startswith("best 0.1")
    seen.page.select_option("#map-metric", "attack_success_rate")
    assert seen.page.locator("#heat td.none").count() == 3 * 5
    assert (
        cell(seen, "krum under label-flip").get_attribute("aria-label") == "krum under label-flip: no value"
    )
    seen.page.select_option("#map-metric", "accuracy")
    assert cell(seen, "krum under label-flip").text_content() == before
    seen.hold_whole()


def test_map_after_a_metric_choice_equals_the_page(made: Make, visit: Callable[..., Visit]) -> None:
    page = made()
    bare = visit(page, java_script_enabled=False)
    read = (
        "buttons => buttons.map((b) =>"
        " [b.textContent, b.getAttribute('aria-label'), b.parentElement.className.trim()])"
    )
    still = bare.page.eval_on_selector_all("#heat button", read)
    seen = visit(page)
    assert seen.page.eval_on_selector_all("#heat button", read) == still
    texts = "rows => rows.map((row) => [...row.cells].map((cell) => cell.textContent.trim()))"
    assert seen.page.eval_on_selector_all("#forest tbody tr", texts) == bare.page.eval_on_selector_all(
        "#forest tbody tr", texts
    )


def test_axis_choices_narrow_the_map(made: Make, visit: Callable[..., Visit]) -> None:
    content = suite_results.results(threats=("flip", "ipm"), splits=("iid", "site"))
    seen = visit(made(content))
    assert seen.page.locator("#heat tbody tr:visible").count() == 4
    seen.page.get_by_label("partition").select_option("site")
    assert [row.strip() for row in seen.page.locator("#heat tbody tr:visible th").all_text_contents()] == [
        "flip · site",
        "ipm · site",
    ]
    seen.page.get_by_label("threat").select_option("ipm")
    assert seen.page.locator("#heat tbody tr:visible").count() == 1


def test_keyboard_moves_through_the_map_to_a_run(made: Make, visit: Callable[..., Visit]) -> None:
    content = suite_results.results(failed=[("label-flip", "krum", 1)], unrun=[("label-flip", "krum", 2)])
    seen = visit(made(content))
    keys = seen.page.keyboard
    assert seen.page.locator('#heat button[tabindex="0"]').count() == 1
    seen.page.locator("#map-metric").focus()
    for key in ("Tab", "Tab", "ArrowDown", "ArrowRight", "ArrowLeft", "ArrowLeft", "ArrowRight", "Enter"):
        keys.press(key)
    dialog = seen.page.get_by_role("dialog", name="krum under label-flip")
    assert dialog.is_visible()
    shown = dialog.inner_text()
    assert "failed: WorkerDied" in shown and "not run" in shown and "accuracy: 0." in shown
    keys.press("Escape")
    assert not dialog.is_visible()
    focused = seen.page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert focused.startswith("krum under label-flip")
    keys.press("Enter")
    dialog.get_by_role("link").press("Enter")
    seen.page.wait_for_url("**/cells/1-1-0-1-1/report.html")
    assert seen.errors == []


def test_cell_of_an_oracle_shows_its_caveat(made: Make, visit: Callable[..., Visit]) -> None:
    seen = visit(made())
    cell(seen, "oracle under none").click()
    assert "oracle upper bound: knows who is malicious" in seen.page.get_by_role("dialog").inner_text()
    seen.page.get_by_role("button", name="Close").click()
    assert not seen.page.get_by_role("dialog").is_visible()


def test_metrics_table_links_to_every_run(made: Make, visit: Callable[..., Visit]) -> None:
    seen = visit(made(), PHONE)
    seen.page.get_by_role("link", name="isolation-forest under ipm(scale=2), seed 2").click()
    seen.page.wait_for_url("**/cells/3-3-2-3-3/report.html")


def test_metrics_table_sorts_and_says_how(made: Make, visit: Callable[..., Visit]) -> None:
    seen = visit(made())
    head = seen.page.locator("#all-metrics th[data-metric=accuracy]")
    place = head.evaluate("head => head.cellIndex")
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    rising = [float(value) for value in column(seen, "all-metrics", place)]
    assert rising == sorted(rising) and len(set(rising)) > 5
    head.get_by_role("button").press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    falling = [float(value) for value in column(seen, "all-metrics", place)]
    assert falling == sorted(falling, reverse=True)
    # The differences: by sign and size, not by their letters.
    head = seen.page.locator("#forest thead th").nth(3)
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    ordered = [float(value.replace("−", "-")) for value in column(seen, "forest", 3)]
    assert ordered == sorted(ordered) and ordered[0] < ordered[-1]


def test_columns_and_rows_can_be_filtered(made: Make, visit: Callable[..., Visit]) -> None:
    seen = visit(made())
    head = seen.page.locator("#all-metrics th[data-metric=auroc]")
    assert not head.is_visible()
    assert seen.page.locator("#all-metrics th[data-metric=drop_macro_f1]").is_visible()
    seen.page.get_by_text("Choose the metrics shown").click()
    seen.page.get_by_label("AUROC", exact=True).check()
    assert head.is_visible()
    place = head.evaluate("head => head.cellIndex")
    assert seen.page.locator(f"#all-metrics tbody tr:first-child > :nth-child({place + 1})").is_visible()
    seen.page.get_by_label("combined drop", exact=True).uncheck()
    assert not seen.page.locator("#all-metrics th[data-metric=drop]").is_visible()
    seen.page.get_by_label("Only rows with").fill("ipm krum")
    assert seen.page.locator("#all-metrics tbody tr:visible").count() == 1
    assert seen.page.text_content("#all-count") == "1 of 20 rows"


def test_differences_follow_metric_and_condition(made: Make, visit: Callable[..., Visit]) -> None:
    seen = visit(made())
    middle = "points => points.map((point) => parseFloat(point.style.left))"
    before = seen.page.eval_on_selector_all("#forest .point", middle)
    assert seen.page.locator("#forest .point.worse").count() < 16 / 2
    seen.page.select_option("#difference-metric", "drop")
    after = seen.page.eval_on_selector_all("#forest .point", middle)
    assert before != after
    # Fewer points lost is better: most stand left of the line now, and still are no squares.
    assert "higher than with fedavg, which is worse" in seen.page.text_content("#difference-sense")
    assert seen.page.locator("#forest .point.worse").count() < 16 / 2
    zero = seen.page.evaluate(
        "parseFloat(document.querySelector('#forest tbody .track').style.getPropertyValue('--zero'))"
    )
    assert sum(value < zero for value in after) > 16 / 2
    seen.page.select_option("#difference-condition", "ipm(scale=2)")
    assert set(column(seen, "forest", 0)) == {"ipm(scale=2)"}
    seen.page.select_option("#difference-metric", "attack_success_rate")
    assert column(seen, "forest", 3) == ["–"] * 4


def test_cost_plot_labels_do_not_overlap(made: Make, visit: Callable[..., Visit]) -> None:
    defences = (
        "fedavg",
        "krum",
        "median",
        "bulyan",
        "dnc",
        "nnm | trimmed-mean",
        "isolation-forest",
        "flame",
    )
    seen = visit(made(suite_results.results(defences=defences), costs=True))
    seen.page.wait_for_timeout(200)
    boxes = seen.page.eval_on_selector_all(
        "#cost .textpoint text",
        "texts => texts.map((text) => text.getBoundingClientRect())"
        ".map(({x, y, width, height}) => [x, y, width, height])",
    )
    assert len(boxes) == len(defences)
    for place, (x, y, width, height) in enumerate(boxes):
        for ox, oy, other_width, other_height in boxes[:place]:
            wide = min(x + width, ox + other_width) - max(x, ox)
            high = min(y + height, oy + other_height) - max(y, oy)
            assert wide <= 1 or high <= 4


def test_cost_choice_changes_the_plot(made: Make, visit: Callable[..., Visit]) -> None:
    seen = visit(made(costs=True))
    title = seen.page.locator("#cost .xtitle")
    assert title.text_content() == "aggregation, milliseconds a round"
    seen.page.get_by_label("Cost", exact=True).select_option("extra memory, MiB at its peak")
    seen.page.wait_for_function(
        "document.querySelector('#cost .xtitle').textContent.startsWith('extra memory')"
    )
    seen.hold_whole()


def test_suite_copy_button_copies_the_settings(made: Make, visit: Callable[..., Visit]) -> None:
    seen = visit(made(), permissions=["clipboard-read", "clipboard-write"])
    seen.page.locator("button[data-copy=command]").click()
    seen.page.get_by_role("button", name="Copied").wait_for()
    assert seen.page.evaluate("navigator.clipboard.readText()") == "python -m fedrobust.benchmark defences"


def test_map_texts_have_enough_contrast_in_both_themes(made: Make, visit: Callable[..., Visit]) -> None:
    """Each cell's text stands out from its colour by 4.5 to 1 (WCAG 2.2, 1.4.3)."""
    contrast = """() => {
        const pen = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
        const light = (colour) => {
            pen.fillStyle = colour;
            pen.fillRect(0, 0, 1, 1);
            const [r, g, b] = [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3).map((part) => {
                const share = part / 255;
                return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
            });
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        return [...document.querySelectorAll("#heat td:not(.none) button")].map((button) => {
            const on = light(getComputedStyle(button.parentElement).backgroundColor);
            const text = light(getComputedStyle(button).color);
            return (Math.max(on, text) + 0.05) / (Math.min(on, text) + 0.05);
        });
    }"""
    content = suite_results.results(threats=[f"threat-{number}" for number in range(20)])
    page = made(content)
    for scheme in ("light", "dark"):
        found = visit(page, DESK, scheme).page.evaluate(contrast)
        assert len(found) == 20 * 5 and min(found) >= 4.4, (scheme, min(found))
