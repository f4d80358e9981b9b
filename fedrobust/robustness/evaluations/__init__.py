"""The built-in evaluations, one file each; a user's own are in a folder ``evaluations`` beside the work."""
