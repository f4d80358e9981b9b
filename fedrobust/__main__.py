"""`python -m fedrobust <command>`."""

from fedrobust.cli import main

if __name__ == "__main__":
    main()
