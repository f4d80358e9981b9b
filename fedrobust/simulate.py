"""`python -m fedrobust.simulate`: the main job."""

from fedrobust.commands.program import run_command
from fedrobust.commands.simulate import simulate

if __name__ == "__main__":
    run_command(simulate)
