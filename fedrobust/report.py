"""`python -m fedrobust.report`: the page of a run or of a suite, one HTML file that works offline."""

from fedrobust.commands.program import run_command
from fedrobust.commands.report import report
from fedrobust.reports.writing import write_report

__all__ = ["report", "write_report"]

if __name__ == "__main__":
    run_command(report)
