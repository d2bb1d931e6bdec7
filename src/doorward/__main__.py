"""`doorward` and `python -m doorward`."""

from __future__ import annotations

import sys


def main() -> None:
    try:
        from doorward.cli.app import run
    except ModuleNotFoundError as missing:
        if (missing.name or "").startswith("doorward"):
            raise
        sys.exit(f"The command line needs {missing.name!r}, which is not installed. Mend: pip install 'doorward[chat]'")
    run()


if __name__ == "__main__":
    main()
