"""Runs Flower's SuperLink or SuperNode behind `fedrobust.deploy.guard`.

    python -m fedrobust.deploy.guarded superlink --ssl-ca-certfile authority.pem ...
    python -m fedrobust.deploy.guarded supernode --superlink federation.example.org:8000 ...

All further arguments are those of `flower-superlink` and `flower-supernode`.
"""

from __future__ import annotations

import functools
import os
import sys

from fedrobust.deploy.guard import FleetRules, Guard
from fedrobust.flower.compat import run_guarded_superlink, run_guarded_supernode

__all__ = ["main"]


def main() -> None:
    """Run the program that the first argument names."""
    if len(sys.argv) < 2 or sys.argv[1] not in ("superlink", "supernode"):
        sys.exit("name the program: python -m fedrobust.deploy.guarded superlink, or supernode")
    program = sys.argv.pop(1)
    # The web server would believe a header that names another sender.
    os.environ["FORWARDED_ALLOW_IPS"] = ""
    # Flower's messages name the program by its first argument.
    sys.argv[0] = f"flower-{program}"
    if program == "superlink":
        run_guarded_superlink(functools.partial(Guard, fleet=True), FleetRules())
    else:
        run_guarded_supernode(functools.partial(Guard, fleet=False))


if __name__ == "__main__":
    main()
