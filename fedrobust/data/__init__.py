"""Where records come from, how they are split and dealt out, and how a test set is corrupted."""
