"""A small command-line program with thirty spans: what ``program`` runs."""

from __future__ import annotations

import argparse

from thirty_spans import HOW


def main() -> None:
    """Parse, work, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("contender", choices=[*HOW, "none"])
    parser.add_argument("folder", help="where records go")
    parser.add_argument("--steps", type=int, default=30, help="how many spans")
    args = parser.parse_args()
    if args.contender == "none":
        print(sum(step * step for step in range(args.steps)))
    else:
        HOW[args.contender](args.folder, args.steps)
