"""Finds contaminated records before anything is trained on them, and says what is wrong with each."""
