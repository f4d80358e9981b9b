"""`python -m fedrobust <command>`."""

from fedrobust.commands.program import main

if __name__ == "__main__":
    main()
