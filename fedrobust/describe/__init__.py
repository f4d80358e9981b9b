"""`python -m fedrobust.describe`: what the records of a source are, and how hospitals would share them."""
