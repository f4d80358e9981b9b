"""The page of one suite."""
