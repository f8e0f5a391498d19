"""Networks whose parts are trained one after the other."""

from typing import Protocol, runtime_checkable


@runtime_checkable
class Staged(Protocol):
    """A model that wants to know how far training has come.

    What it trains must follow from ``progress`` alone, so that a resumed run goes on as it was.
    """

    def set_progress(self, progress: float) -> None:
        """Take notice that this share of all steps is done, in [0, 1); called before each step."""
        ...
