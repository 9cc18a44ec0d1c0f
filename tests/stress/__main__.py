"""Run the long versions: thousands of kills, and a crowd of writers for a minute.

``make stress``, or ``make stress ARGS="--kills 20000 --seconds 600"``. Each prints its
figures as JSON, and stops at the first loss with the folder that shows it.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time

from stress import crowd, kills


def main() -> None:
    """Run both."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--kills", type=int, default=5_000, help="how many writers to kill")
    parser.add_argument("--writers", type=int, default=16, help="how many write at once")
    parser.add_argument("--seconds", type=float, default=60.0, help="for how long they do")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    args = parser.parse_args()
    print(f"seed {args.seed}", file=sys.stderr)
    started = time.monotonic()
    figures = kills.run(args.kills, 3_600.0, args.seed).as_json()
    print("kills", json.dumps({**figures, "seconds": round(time.monotonic() - started, 1)}))
    print("crowd", json.dumps(crowd.run(args.writers, args.seconds, args.seed)))


if __name__ == "__main__":
    main()
