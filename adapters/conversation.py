"""What prompts are made of, to those who ask for them and those who render them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

# As chat templates take it: ``role`` and ``content``, and what a role may have besides.
Message = Mapping[str, Any]
# ``reply`` opens the assistant's next turn, ``continued`` leaves the last message open, ``bare``
# adds nothing.
Ending = Literal["reply", "continued", "bare"]
