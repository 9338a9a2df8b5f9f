"""``python -m picas`` is the same as ``picas``."""

from picas.cli.main import main

if __name__ == "__main__":
    main()
