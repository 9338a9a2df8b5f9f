"""Imports from a bundle, and the beginning of a pilot in it.

This is the first module of picas that runs in a bundle, by Python's own means for zip archives. It needs nothing but
the standard library, and as little of that as it can.
"""

from __future__ import annotations

import atexit
import json
import marshal  # what is read with it is in the bundle, beside the code that reads it
import os
import sys
from importlib.machinery import ModuleSpec
from importlib.util import MAGIC_NUMBER
from typing import TYPE_CHECKING, Any
from zipimport import zipimporter

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType, ModuleType

MANIFEST = "bundle/manifest.json"
"""What is in the bundle, see `picas.bundling.archive`."""

FILES = "bundle/files/"
"""Where the user's files are in a bundle."""

FAILED = 1
"""Exit code when the pilot could not begin."""

USAGE = 2
"""Exit code for what cannot be run."""

DIGEST_LETTERS = 32
"""So much of a bundle's digest is the name of what is kept for it."""

FILES_VARIABLE = "PICAS_BUNDLE_FILES"
"""The environment variable that says where the user's files are."""

ARCHIVE_VARIABLE = "PICAS_BUNDLE"
"""The environment variable that says where the bundle is."""


def code_name() -> str:
    """The entry with the code of all modules for this Python: its tag, and the number of its bytecode."""
    return f"bundle/code/{sys.implementation.cache_tag}-{MAGIC_NUMBER[:2].hex()}"


class Loader:
    """Finds and loads the modules in a bundle, as `sys.meta_path` and `importlib.resources` ask for them.

    Args:
        archive: the bundle's absolute path.

    Attributes:
        archive: the same; `importlib.resources` of Python 3.9 looks for it.
        manifest: what is in the bundle.
        prepared: whether it has code for this Python.
        compiled: the modules that it had none for, and that were compiled from their text.
    """

    def __init__(self, archive: str) -> None:
        self.archive = archive
        self._zip = zipimporter(archive)
        self.manifest: dict[str, Any] = json.loads(self._zip.get_data(MANIFEST))
        self._places = frozenset(self.manifest["modules"])
        self._by_name: dict[str, str] = {}
        self._texts: dict[str, bytes] = {}
        self.compiled: list[str] = []
        # All of it now, in one piece: the bundle may be replaced or removed while the pilot is at work, and may be on
        # a file system where each look at it takes its time.
        try:
            kept = self._zip.get_data(code_name())
        except OSError:  # no such Python was there when the bundle was made
            kept = b""
        self.prepared = bool(kept)
        if not self.prepared:
            self._texts = self._all_texts()
            kept = self._kept_code()
        try:
            self._code: dict[str, bytes] = marshal.loads(kept) if kept else {}  # noqa: S302
        except (EOFError, TypeError, ValueError):  # what was kept is damaged
            self._code = {}

    def _all_texts(self) -> dict[str, bytes]:
        import zipfile  # noqa: PLC0415 - seldom needed, and slow to load

        with zipfile.ZipFile(self.archive) as opened:
            return {place: opened.read(place) for place in (*self._places, *self.manifest["data"])}

    def _kept_code(self) -> bytes:
        """What other pilots have compiled; they are told what this one compiles."""
        from picas.bundling import cache  # noqa: PLC0415 - seldom needed

        def keep() -> None:
            if self.compiled:
                cache.keep_code(name, marshal.dumps(self._code))

        name = f"{self.manifest['digest'][:DIGEST_LETTERS]}-{code_name().rpartition('/')[2]}"
        atexit.register(keep)
        return cache.kept_code(name)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Where a module is in the bundle; None if it is not in it."""
        tail = name.rpartition(".")[2]
        for folder in (self.archive,) if path is None else path:
            if not f"{folder}/".startswith(f"{self.archive}/"):
                continue
            base = f"{folder[len(self.archive) + 1 :]}/{tail}".lstrip("/")
            for place in (f"{base}/__init__.py", f"{base}.py"):
                if place in self._places:
                    return self._spec(name, place)
        return None

    def _spec(self, name: str, place: str) -> ModuleSpec:
        self._by_name[name] = place
        spec = ModuleSpec(name, self, origin=f"{self.archive}/{place}")  # type: ignore[arg-type] # not a subclass: importlib.abc takes its time
        spec.has_location = True
        if place.endswith("/__init__.py"):
            spec.submodule_search_locations = [f"{self.archive}/{place.rpartition('/')[0]}"]
        return spec

    def create_module(self, spec: ModuleSpec) -> None:
        """An ordinary one."""

    def exec_module(self, module: ModuleType) -> None:
        """Run a module's code."""
        exec(self.get_code(module.__name__), module.__dict__)  # noqa: S102 - that is what importing is

    def get_code(self, name: str) -> CodeType:
        """The code of a module that was found."""
        place = self._place(name)
        kept = self._code.get(place)
        if kept is not None:
            known: CodeType = marshal.loads(kept)  # noqa: S302
            return known
        text = self._texts.get(place) or self._zip.get_data(place)
        code: CodeType = compile(text, shown_name(place), "exec", dont_inherit=True)
        self._code[place] = marshal.dumps(code)
        self.compiled.append(place)
        return code

    def get_source(self, name: str) -> str | None:
        """The text of a module, for tracebacks."""
        try:
            return self._zip.get_data(self._place(name)).decode("utf-8")
        except (OSError, ImportError):  # the bundle has been removed, or replaced
            return None

    def get_filename(self, name: str) -> str:
        """What a module has as its ``__file__``."""
        return f"{self.archive}/{self._place(name)}"

    def is_package(self, name: str) -> bool:
        """Whether a module that was found is a package."""
        return self._place(name).endswith("/__init__.py")

    def get_data(self, path: str) -> bytes:
        """A file in the bundle, by a path that begins with the archive's."""
        place = path[len(self.archive) + 1 :]
        kept = None if place in self._places else self._code.get(place) or self._texts.get(place)
        return self._zip.get_data(path) if kept is None else kept

    def get_resource_reader(self, name: str) -> Any:
        """What `importlib.resources` reads the files of a package with."""
        parent = self._place(name).rpartition("/")[0].rpartition("/")[0]
        return zipimporter(f"{self.archive}/{parent}" if parent else self.archive).get_resource_reader(name)

    def _place(self, name: str) -> str:
        if name not in self._by_name and self.find_spec(name) is None:
            raise ImportError(f"no module {name} has been found in {self.archive}", name=name)
        return self._by_name[name]


def shown_name(place: str) -> str:
    """What code of a bundle is said to come from: no file's name, so that tracebacks ask the loader for its lines."""
    return f"<bundle>/{place}"


def install(archive: str) -> Loader:
    """Have what is imported from now on loaded from a bundle, as far as it is in it."""
    loader = Loader(archive)
    sys.meta_path.insert(0, loader)
    return loader


def begin(archive: str) -> int | None:
    """Make the bundle importable, and run the user's program that the command line names, if it does; the exit code.

    Returns:
        None if the command line is one of picas', which is still to be run.
    """
    loader = install(archive)
    sys.path.append(sys.path.pop(0))  # the archive: it is of use only to processes that are given this path
    os.environ[ARCHIVE_VARIABLE] = archive
    os.environ.pop(FILES_VARIABLE, None)  # of another bundle, whose work this is
    if loader.manifest["files"]:
        problem = _bring_files(loader)
        if problem:
            sys.stderr.write(f"picas: the files in {archive} cannot be unpacked anywhere\n{problem}\n")
            return FAILED
    for name, value in loader.manifest["environment"].items():
        if value.startswith(FILES):
            value = f"{os.environ[FILES_VARIABLE]}/{value[len(FILES) :]}"  # noqa: PLW2901
        os.environ.setdefault(name, value)
    if sys.argv[1:] and sys.argv[1].endswith(".py"):
        return _run_program(sys.argv[1:])
    return None


def _run_program(argv: list[str]) -> int:
    """Run a program in Python, such as an actor of the user's, as ``python3 PROGRAM`` does; its exit code."""
    import runpy  # noqa: PLC0415 - seldom needed

    program = argv[0]
    place = os.environ.get(FILES_VARIABLE)
    if place is not None and not os.path.exists(program):  # noqa: PTH110
        program = f"{place}/{program}"
    if not os.path.isfile(program):
        sys.stderr.write(f"picas: there is no program {argv[0]}, here or among the files of the bundle\n")
        return USAGE
    sys.argv = argv
    sys.path.insert(0, os.path.dirname(os.path.abspath(program)))  # noqa: PTH120
    runpy.run_path(program, run_name="__main__")
    return 0


def _bring_files(loader: Loader) -> str:
    """Put the user's files where programs and modules are looked for; what is wrong, "" if nothing is."""
    from picas.bundling import cache  # noqa: PLC0415 - few bundles have any

    manifest = loader.manifest
    try:
        place = cache.unpacked(
            manifest["digest"][:DIGEST_LETTERS],
            manifest["files"],
            lambda name: loader.get_data(f"{loader.archive}/{FILES}{name}"),
        )
    except cache.NoPlace as error:
        return str(error)
    os.environ[FILES_VARIABLE] = str(place)
    os.environ["PATH"] = f"{place}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    sys.path.insert(0, str(place))
    return ""
