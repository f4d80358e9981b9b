"""`python -m fedrobust.benchmark`: a declared suite of runs, its table and its page."""

from fedrobust.commands.benchmark import benchmark
from fedrobust.commands.program import run_command

if __name__ == "__main__":
    run_command(benchmark)
