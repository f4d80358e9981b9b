"""What several test files share."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import artefacts, chromium, visit

__all__ = ["artefacts", "chromium", "data_root", "visit"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files with slow tests first, so that no slow test is the last of a parallel run."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True)
def unchanged_search_path() -> Iterator[None]:
    """Take a test's working folder off the search path again: its plug-ins are not another test's."""
    before = list(sys.path)
    yield
    sys.path[:] = before


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep decoded images out of the user's cache."""
    before = os.environ.get("FEDROBUST_CACHE")
    os.environ["FEDROBUST_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["FEDROBUST_CACHE"]
    else:
        os.environ["FEDROBUST_CACHE"] = before


@pytest.fixture
def data_root() -> Path:
    """Return the folder of real images that the environment names."""
    root = os.environ.get("FEDROBUST_DATA_ROOT")
    if not root:
        pytest.skip("FEDROBUST_DATA_ROOT is not set: tests on real images are skipped")
    return Path(root)
