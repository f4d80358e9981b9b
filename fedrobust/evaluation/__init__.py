"""How a model, a robustness claim and a detector are measured."""
