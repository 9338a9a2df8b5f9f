"""What Python runs first in a bundle, as ``__main__.py`` of the archive; old Pythons have to understand it too."""
# ruff: noqa: UP031, RUF005, PTH118, PTH120

import os
import sys

OLDEST = (3, 9)  # replaced by what the packages in the bundle need
NEWEST_TRIED = 30
UNFIT = 4


def main():
    # type: () -> int
    """Go on with this Python, or with a newer one, or say what is missing."""
    archive = os.path.dirname(os.path.abspath(__file__))
    if sys.version_info[:2] >= OLDEST:
        sys.path[0] = archive  # it may have been relative
        from picas.bundling.loader import begin  # noqa: PLC0415 - not for old Pythons

        code = begin(archive)
        if code is None:
            from picas.cli.main import run  # noqa: PLC0415 - from the bundle, once that is importable

            code = run(sys.argv[1:])
        return code
    newer = find_newer()
    if newer is None:
        sys.stderr.write(
            "picas: this bundle needs Python %d.%d or newer; %s is Python %d.%d\n"
            "Run it with a newer one, or make a bundle for this one: picas bundle --python %d.%d\n"
            % (OLDEST + (sys.executable,) + sys.version_info[:2] + max((3, 9), sys.version_info[:2]))
        )
        return UNFIT
    flags = [flag for flag, name in (("-I", "isolated"), ("-S", "no_site")) if getattr(sys.flags, name, 0)]
    return os.execv(newer, [newer] + flags + [archive] + sys.argv[1:])  # noqa: S606


def find_newer():
    # type: () -> str | None
    """A Python on the PATH that is new enough; None if there is none."""
    import subprocess  # noqa: PLC0415 - seldom needed

    check = "import sys; sys.exit(sys.version_info[:2] < %r)" % (OLDEST,)
    for minor in range(max(NEWEST_TRIED, OLDEST[1]), OLDEST[1] - 1, -1):
        for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
            path = os.path.join(folder, "python3.%d" % minor)
            if os.access(path, os.X_OK):
                with open(os.devnull, "w") as nowhere:
                    if subprocess.call([path, "-c", check], stdout=nowhere, stderr=nowhere) == 0:
                        return path
    return None


if __name__ == "__main__":
    sys.exit(main())
