"""The published tests: found by pytest in a subclass, and no burden to anybody else."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

from picas.testing import StoreContract

if TYPE_CHECKING:
    from pathlib import Path


def run_python(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_picas_and_its_parts_loads_no_pytest() -> None:
    program = "import picas, picas.pool, picas.pilot.loop, picas.stores.sqlite.store, sys; print('pytest' in sys.modules)"
    assert run_python(program) == "False"


def test_without_pytest_the_message_names_the_command() -> None:
    program = """
        import sys
        sys.modules["pytest"] = None
        from picas.errors import MissingExtra
        try:
            import picas.testing
        except MissingExtra as error:
            print(error.advice)
    """
    assert "pip install pytest" in run_python(textwrap.dedent(program))


def test_a_subclass_must_say_where_its_store_is(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="store_url"):
        StoreContract().store_url(tmp_path)


def test_a_store_that_breaks_the_contract_fails_it(tmp_path: Path) -> None:
    """The example of the documentation, with a store that writes whatever it is told."""
    (tmp_path / "careless.py").write_text(
        textwrap.dedent(
            """
            from picas.stores import open_store
            from picas.stores.base import Change

            def open_careless(url):
                store = open_store(url)
                replace = store.replace

                def careless(changes):
                    newest = [store.fetch([change.token.id])[0] for change in changes]
                    return replace(
                        [
                            Change(type(new)(new.id, change.token.body, new.rev), change.attach, change.rename)
                            for change, new in zip(changes, newest)
                            if new
                        ]
                    )

                store.replace = careless
                return store
            """
        )
    )
    (tmp_path / "test_careless.py").write_text(
        textwrap.dedent(
            """
            from picas.testing import StoreContract

            class TestCareless(StoreContract):
                opener = "careless:open_careless"

                def store_url(self, tmp_path):
                    return f"sqlite:///{tmp_path}/pool.db"
            """
        )
    )
    two = "replace_writes_only or comes_back_as_it_went_in"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path, "-k", two],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "1 failed, 1 passed" in done.stdout, done.stdout
    assert "test_replace_writes_only_onto_the_version_that_was_read" in done.stdout
