"""A Chromium for the tests of pages: opens a file and checks that it is complete."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

__all__ = ["DESK", "PHONE", "Visit", "artefacts", "chromium", "launch", "visit"]

#: Widths in pixels that pages are held to.
PHONE, DESK = 390, 1440

_ARGUMENTS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


@dataclass
class Visit:
    """One page that is open, what went wrong in it so far, and the folder for screenshots."""

    page: Any
    screenshots: Path
    errors: list[str] = field(default_factory=list)

    def overflow(self) -> int:
        """Return by how many pixels the page is wider than its window."""
        return int(
            self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        )

    def plots(self) -> dict[str, list[float]]:
        """Return width and height of each plot's drawing; [0, 0] where nothing is drawn."""
        found: dict[str, list[float]] = self.page.evaluate(
            """() => Object.fromEntries([...document.querySelectorAll("[data-plot]")].map((place) => {
                const box = place.querySelector("svg.main-svg")?.getBoundingClientRect();
                const kinds = ".cartesianlayer path, .cartesianlayer image, .hm";
                const marks = place.querySelectorAll(kinds).length;
                return [place.id, box && marks ? [box.width, box.height] : [0, 0]];
            }))"""
        )
        return found

    def shot(self, name: str) -> Path:
        """Save a screenshot of the full page."""
        path = self.screenshots / f"{name}.png"
        self.page.screenshot(path=path, full_page=True)
        return path

    def hold_whole(self) -> None:
        """Assert that all is drawn, nothing complains, and nothing sticks out at the side."""
        assert self.errors == []
        assert self.overflow() == 0
        drawn = self.plots()
        assert all(width > 100 and height > 40 for width, height in drawn.values()), drawn


@pytest.fixture
def artefacts(tmp_path: Path) -> Path:
    """Return the folder for screenshots: the folder that the environment names, else the test's own."""
    folder = Path(os.environ.get("FEDROBUST_ARTEFACTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def launch(kind: Any, *more: str) -> Any:
    """Start a browser with further arguments; the test is skipped where there is none."""
    binary = shutil.which("chromium") or shutil.which("chromium-browser")
    if binary is None:
        pytest.skip("there is no chromium (Debian: apt-get install chromium)")
    return kind.launch(executable_path=binary, args=[*_ARGUMENTS, *more])


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Return a browser for a module; while it runs, nothing else in its thread may run an event loop."""
    api = pytest.importorskip("playwright.sync_api", reason="the playwright package is not installed")
    with api.sync_playwright() as driver:
        browser = launch(driver.chromium)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Any, artefacts: Path) -> Iterator[Callable[..., Visit]]:
    """Return a function that opens a file at a width, light or dark, and waits until its plots are drawn."""
    opened = []

    def to(file: Path, width: int = DESK, scheme: str = "light", **options: Any) -> Visit:
        context = chromium.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True, **options
        )
        # A busy machine takes its time.
        context.set_default_timeout(120_000)
        opened.append(context)
        made = Visit(context.new_page(), artefacts)
        made.page.on("pageerror", lambda error: made.errors.append(str(error)))
        made.page.on(
            "console",
            lambda line: made.errors.append(line.text) if line.type in ("error", "warning") else None,
        )
        made.page.goto(file.absolute().as_uri())
        if options.get("java_script_enabled", True):
            made.page.evaluate("fedrobust.ready")
        return made

    yield to
    for context in opened:
        context.close()
