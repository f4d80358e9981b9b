"""Reports: one self-contained HTML page of a run or of a suite, which works offline."""
