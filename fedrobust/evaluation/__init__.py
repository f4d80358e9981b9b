"""How models, robustness and detection are measured."""
