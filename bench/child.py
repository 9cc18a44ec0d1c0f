"""One measurement in a process of its own; prints what it found as JSON.

Usage: ``python bench/child.py SCENARIO CASE CONTENDER COUNT FOLDER``. Exit code 3: a
package of the contender is not installed.
"""

from __future__ import annotations

import importlib
import json
import sys

from contenders import MissingError

MISSING = 3


def main(scenario: str, case: str, contender: str, count: str, folder: str) -> int:
    """Measure, print, and end as a program does."""
    try:
        found = importlib.import_module(scenario).measure(case, contender, int(count), folder)
    except MissingError as missing:
        sys.stderr.write(f"{missing} is not installed\n")
        return MISSING
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
