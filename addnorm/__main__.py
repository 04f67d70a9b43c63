"""`addnorm`, and `python -m addnorm`."""

import sys


def main() -> int:
    """Runs one command and returns the exit code; an interruption may come while it is loaded."""
    try:
        from addnorm.cli import main as run

        return run()
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
