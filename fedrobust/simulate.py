"""`python -m fedrobust.simulate`: the main job."""

from fedrobust.cli import run_command, simulate

if __name__ == "__main__":
    run_command(simulate)
