"""`python -m fedrobust.describe`: what the records of a source are, and how hospitals would share them."""

from fedrobust.commands.describe import describe
from fedrobust.commands.program import run_command

if __name__ == "__main__":
    run_command(describe)
