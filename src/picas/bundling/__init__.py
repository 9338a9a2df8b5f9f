"""A pilot in one file: how it is made (`contents`, `compiling`, `archive`), and how it begins (`loader`, `cache`).

What Python runs first in it is `picas.bundle_main`. The file is a zip archive that Python runs as it is. In it are, as they would be installed, picas and the packages
that it needs; beside them in ``bundle/`` a list of what is in it, the code of all modules in the form that each known
Python would keep in ``__pycache__``, and the user's files. Code is run from the archive, which is read once: a
thousand pilots that begin together on a shared file system open one file each, and go on when it is replaced. Only
the user's files are unpacked, since programs need to find them.
"""

from __future__ import annotations

PICAS_OLDEST = (3, 9)
"""The oldest Python that picas itself runs on."""


def is_bundled() -> bool:
    """Whether this picas runs from a bundle."""
    return hasattr(__spec__.loader, "archive")


def settle() -> None:
    """For a process that is given the search path of a bundled pilot: use compiled code, as the pilot does.

    By the search path alone Python would compile each module of a bundle anew.
    """
    if is_bundled():
        from picas.bundling.loader import install  # noqa: PLC0415 - only in a bundle

        install(__spec__.loader.archive)  # type: ignore[union-attr] # that is what has been looked at
