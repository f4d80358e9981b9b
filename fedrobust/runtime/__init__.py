"""One run: its loop, what it reports, and where its time and memory go."""
