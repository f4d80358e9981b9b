"""The page of the two claims, on made-up results."""

from __future__ import annotations

from benchmarks.claims import Strength, page

FOUND = {
    ("median", "1.0", "none", 1): Strength(0.8, None),
    ("median", "0.5", "none", 1): Strength(0.6, None),
    ("median", "1.0", "xfed", 1): Strength(0.7, None),
    ("median", "0.5", "xfed", 1): Strength(0.58, None),
    ("median", "1.0", "a3fl, two passes", 1): Strength(0.8, 0.2),
    ("median", "1.0", "a3fl", 1): Strength(0.8, 0.4),
    ("median", "0.5", "a3fl, two passes", 1): Strength(0.6, 0.19),
    ("median", "0.5", "a3fl", 1): Strength(0.6, 0.1),
}


def test_both_claims_are_counted_by_pairs_of_runs() -> None:
    text = page(FOUND)
    lines, prose = text.splitlines(), text.replace("\n", " ")
    assert "means over the seeds 1 after round 8" in prose
    assert (
        "| a3fl | median | 1.0 | 0.20 | 0.40 |" in lines and "| a3fl | median | 0.5 | 0.19 | 0.10 |" in lines
    )
    assert "attains less in 1 of 2 pairs" in prose
    assert "| median | xfed | 0.700 | 0.580 | | |" in lines
    # Honest: a quarter lost. a3fl loses three quarters, its short form 5 %, xfed 80 % of what it cost.
    assert "in 2 of 3 pairs" in prose
