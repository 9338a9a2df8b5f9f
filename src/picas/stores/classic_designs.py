"""What may be done to design documents by hand: the five classic views made, of all tokens or of some; any removed.

It is the same in a CouchDB database and in the file of an embedded pool; how documents are kept is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from picas.errors import InvalidInput
from picas.selection import Selection
from picas.stores import design
from picas.stores.design import CLASSIC, CLASSIC_VIEWS, NEXT, Judged

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Document = dict[str, Any]
    OnProgress = Callable[[str, int], object]


@dataclass(frozen=True)
class Made:
    """What became of a design document: ``created``, ``updated``, ``unchanged``, or ``kept`` as somebody else has it."""

    name: str
    outcome: str
    where: str = ""


@dataclass(frozen=True)
class Found:
    """A design document that is there.

    Attributes:
        rows: for each of its views the number of its rows; None where the server cannot tell.
        slow: its totals are summed in JavaScript.
        pending: changes that its index does not have yet; None where the server does not say.
    """

    name: str
    judged: Judged
    rows: Mapping[str, int | None]
    slow: bool
    pending: int | None


class ClassicDesigns:
    """The design documents of a pool, as people make and remove them.

    Args:
        place: what the pool is called in messages.
    """

    def __init__(self, place: str) -> None:
        self._place = place

    def get(self, name: str) -> Document | None:
        """The design document of this name."""
        raise NotImplementedError

    def survey(self) -> list[Found]:
        """All design documents, by name."""
        raise NotImplementedError

    def create_own(self, on_progress: OnProgress | None = None) -> list[Made]:
        """Have our own design documents as they should be, where a pool of this kind has such."""
        raise NotImplementedError

    def create_guard(self, *, force: bool = False) -> Made:
        """Have the document that says what members may do to tokens, where a pool of this kind can have it.

        Args:
            force: also where somebody has changed it.

        Raises:
            InvalidInput: it cannot, or somebody has.
        """
        raise NotImplementedError

    def _write(
        self, name: str, found: Document | None, wanted: Document, on_progress: OnProgress | None
    ) -> str:
        """Put a design document in the place of the one that was found; the outcome, as in `Made`."""
        raise NotImplementedError

    def _delete(self, name: str) -> None:
        """Remove a design document, if it is there."""
        raise NotImplementedError

    def create_classic(
        self,
        name: str = CLASSIC,
        where: Selection | None = None,
        *,
        force: bool = False,
        on_progress: OnProgress | None = None,
    ) -> Made:
        """Have the five classic views under this name, of the tokens that fit.

        Args:
            where: the condition; None for that which the document has already, else for all tokens.
            force: also where somebody else has written the document, or changed it. Their other views stay.
            on_progress: called with the name of an index that is being built and the changes it lacks.

        Raises:
            InvalidInput: a design document of this name is somebody else's, or the name cannot be one.
        """
        _check_name(name)
        found = self.get(name)
        judged = design.judge(name, found) if found is not None else Judged("classic", ours=True)
        if found is not None and not force:
            if judged.standing == "newer" or (judged.kind == "classic" and not judged.ours and where is None):
                return Made(name, "kept", judged.where)
            if not judged.ours or judged.standing == "edited":
                who = "was changed by somebody" if judged.ours else "is another program's"
                raise InvalidInput(
                    f"{self._place}: the design document {name} {who}; it is left as it is",
                    "--force replaces the five classic views in it; its other views stay.",
                )
        if where is None and judged.where:
            where = Selection.parse(judged.where)
        wanted = _with_others_kept(design.classic(where), found or {})
        return Made(name, self._write(name, found, wanted, on_progress), where.text if where else "")

    def remove(self, name: str, *, force: bool = False) -> None:
        """Remove a design document with its views.

        Raises:
            InvalidInput: there is none of this name, or it is not to be removed without ``force``.
        """
        found = self.get(name)
        if found is None:
            raise InvalidInput(
                f"{self._place} has no design document {name}", "picas views list shows those there are."
            )
        judged = design.judge(name, found)
        why = ""
        if judged.kind == "guard":
            why = "is what keeps members from changing what is not theirs"
        elif judged.kind == "own":
            why = "is what pilots find tokens by; where it is missing they write it again, or work slowly"
        elif not judged.ours:
            why = "is another program's"
        elif judged.standing == "edited":
            why = "was changed by somebody"
        elif judged.kind == "classic" and (others := set(found["views"]) - set(CLASSIC_VIEWS)):
            why = f"also has views of somebody else: {', '.join(sorted(others))}"
        if why and not force:
            raise InvalidInput(f"{self._place}: the design document {name} {why}", "--force removes it.")
        self._delete(name)


def _with_others_kept(classic: Document, found: Mapping[str, Any]) -> Document:
    """The five classic views beside whatever else is in a design document."""
    others = {view: each for view, each in (found.get("views") or {}).items() if view not in CLASSIC_VIEWS}
    kept = {key: value for key, value in found.items() if not key.startswith("_")}
    return {**kept, **classic, "views": {**classic["views"], **others}}


def _check_name(name: str) -> None:
    if name in design.own() or name == design.GUARD or name.endswith(NEXT):
        raise InvalidInput(f"the design document {name} is PiCaS's own", "Give the views another name.")
    if not name or name.startswith("_") or "/" in name or any(ord(letter) < 32 for letter in name):
        raise InvalidInput(
            f"'{name}' cannot be the name of a design document",
            "Take letters, digits and '-', such as SingleCore.",
        )
