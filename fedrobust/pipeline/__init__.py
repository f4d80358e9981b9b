"""A defence with the steps before it, and the monitor that names parts without effect."""
