"""The built-in methods, one file each. They are found by name, as modules of `auditors`, never imported."""
