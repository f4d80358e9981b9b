"""The words of code, messages, reports and pages are those of the field and of docs/glossary.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[1]
SUFFIXES = {".py", ".md", ".toml", ".j2", ".js", ".css"}
TEXTS = sorted(
    path
    for folder in ("fedrobust", "clients", "strategies", "experiments", "docs", "benchmarks")
    for path in (TOP / folder).rglob("*")
    if path.suffix in SUFFIXES and "__pycache__" not in path.parts
) + [TOP / "README.md", TOP / "CONTRIBUTING.md", TOP / "CHANGELOG.md"]

#: A retired word, and the word in its place; a hospital is it.
RETIRED = {
    r"Roster|enrol\w*": "client grid, discover",
    r"Reception": "reply collector",
    r"Briefing|SEAT": "data spec, client assignment",
    r"wronged|accused|accuses": "falsely flagged",
    r"oddness|odd (?:hospitals?|ones?|records|and honest)|honest and odd": "atypical, anomaly score",
    r"conduct": "update behaviour",
    r"lent|_lend_\w+": "valid only during the call",
    r"blamed": "reraise_as_user_error",
    r"alien": "unusual schema",
    r"steer\w*|bent": "gradient hook, hooked",
    r"awake|curious": "is_active, needs_benign",
    r"chang(?:ed|es) nothing": "had no effect",
    r"reckons? with": "tolerate",
    r"contenders?": "methods",
    r"twins?": "clean baseline",
    r"doses": "attack budgets",
    r"carriers?": "execution settings",
    r"fair[ _]shares?": "uniform weight",
    r"anew": "again",
    r"go on with|goes on (?:from|with|where)|go_on": "resume",
    r"from its last whole round|whole (?:runs?|rounds?) (?:of|that)": "complete",
    r"hospital, (?:he|she)|(?:he|she) (?:trains|sends|says|loses)": "it",
}


@pytest.mark.parametrize("words", RETIRED, ids=lambda words: words.split("|")[0])
def test_retired_words_are_gone(words: str) -> None:
    found = [
        f"{path.relative_to(TOP)}:{number}: {line.strip()}"
        for path in TEXTS
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if re.search(rf"\b(?:{words})\b", line)
    ]
    assert found == [], f"write: {RETIRED[words]}"
