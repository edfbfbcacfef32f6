"""What a grammar looks like to the engine: which tokens may come next, and when it is complete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Grammar(Protocol):
    """The state of one reply's grammar. Called on the engine's thread, token by token.

    An exception ends this reply and no other.
    """

    def mask(self) -> NDArray[np.int32] | None:
        """The tokens that may come next; ``None`` for all.

        Contiguous, ceil(vocabulary / 32) words; bit ``token % 32`` of word ``token // 32`` is set
        where ``token`` is allowed. Tokens beyond the last word are not. The array may be used
        again after the next ``accept``. Where nothing is allowed the reply fails.
        """

    def accept(self, token: int) -> None:
        """Go on by a token that was drawn and did not end the reply."""

    @property
    def is_finished(self) -> bool:
        """True where nothing may follow: the reply ends without an end marker."""
