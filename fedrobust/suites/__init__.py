"""Suites of runs: what is compared with what, carried out side by side, and what came out."""
