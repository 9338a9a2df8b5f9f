"""``python -m benchmarks [NAME]… [--quick] [--rows TEXT]``: run benchmarks, print and keep their tables."""

from __future__ import annotations

import argparse
import importlib
import sys

from ._harness import BenchmarkError, say

EMBEDDED = ("startup", "push", "functions", "commands", "fleet", "scale", "bundle", "slurm", "autopilot")

COUCHDB = tuple(f"couchdb-{name}" for name in "noop push logs crowd idle cluster actors autopilot".split())
"""The pool in a CouchDB, each a module of the folder `couchdb`, which stands for all of them."""

NAMES = (*EMBEDDED, *COUCHDB)


def main() -> int:
    """Run what the arguments name; 1 if a benchmark gave no numbers."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; couchdb for those")
    parser.add_argument("--quick", action="store_true", help="tiny sizes; results aren't kept")
    parser.add_argument("--full", action="store_true", help="couchdb-push: a million tokens")
    parser.add_argument("--rows", default="", help="couchdb-noop: only rows named so; results aren't kept")
    args = parser.parse_args()
    names = [name for given in args.names for name in (COUCHDB if given == "couchdb" else (given,))] or NAMES
    if unknown := set(names) - set(NAMES):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    options = {"couchdb-push": {"full": args.full}, "couchdb-noop": {"rows": args.rows}}
    failed = False
    for name in names:
        say(f"{name} …")
        try:
            module = importlib.import_module("." + name.replace("-", ".", 1), __package__)
            report = module.run(quick=args.quick, **options.get(name, {}))
        except BenchmarkError as error:
            say(f"{name} gave no numbers: {error}")
            failed = True
            continue
        print(report.text(), flush=True)
        if not (args.quick or args.rows):
            report.write()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
