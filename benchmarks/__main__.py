"""``python -m benchmarks [NAME]… [--quick]``: run benchmarks, print and keep their tables."""

from __future__ import annotations

import argparse
import importlib
import sys

from ._harness import BenchmarkError, say

NAMES = ("startup", "push", "functions", "commands", "fleet", "scale")


def main() -> int:
    """Run what the arguments name; 1 if a benchmark gave no numbers."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--quick", action="store_true", help="tiny sizes; results aren't kept")
    args = parser.parse_args()
    if unknown := set(args.names) - set(NAMES):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    failed = False
    for name in args.names or NAMES:
        say(f"{name} …")
        try:
            report = importlib.import_module(f".{name}", __package__).run(quick=args.quick)
        except BenchmarkError as error:
            say(f"{name} gave no numbers: {error}")
            failed = True
            continue
        print(report.text(), flush=True)
        if not args.quick:
            report.write()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
