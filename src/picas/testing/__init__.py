"""What every store must do, as tests that you can run against your own.

Subclass `StoreContract` in a test module, say where a fresh store is, and pytest runs every test of the
contract against it::

    from picas.testing import StoreContract

    class TestMyStore(StoreContract):
        def store_url(self, tmp_path):
            return f"sqlite:///{tmp_path}/pool.db"

The tests say in their names what is guaranteed; `picas.stores.base` says it in prose. They need pytest,
which is no dependency of PiCaS: `import picas` does not import this package.
"""

from __future__ import annotations

from picas.errors import MissingExtra

try:
    import pytest
except ImportError as missing:
    raise MissingExtra("picas.testing needs pytest", "Install it: pip install pytest") from missing

# Before the modules are imported, so that a failed assert in them shows its values.
_PARTS = ("attachments", "claims", "documents", "fleet", "later", "looking", "processes", "tallies")
pytest.register_assert_rewrite(*(f"{__name__}.{part}" for part in _PARTS))

from picas.testing.attachments import AttachmentRules  # noqa: E402 - see above
from picas.testing.claims import ClaimRules  # noqa: E402
from picas.testing.documents import DocumentRules  # noqa: E402
from picas.testing.fleet import FleetRules  # noqa: E402
from picas.testing.later import LaterRules  # noqa: E402
from picas.testing.looking import LookingRules  # noqa: E402
from picas.testing.processes import ProcessRules  # noqa: E402
from picas.testing.tallies import TallyRules  # noqa: E402

__all__ = ["StoreContract"]


class StoreContract(
    DocumentRules,
    ClaimRules,
    LaterRules,
    AttachmentRules,
    LookingRules,
    TallyRules,
    FleetRules,
    ProcessRules,
):
    """The tests that every `picas.stores.base.Store` passes.

    A subclass defines ``store_url(tmp_path)``: the URL of a fresh, empty store that several processes of
    this machine can open. A store that has to be removed afterwards overrides the fixture ``url``, which
    calls it.

    Attributes:
        opener: ``module:function`` that opens a store by its URL, here and in the processes that the
            tests start.
    """
