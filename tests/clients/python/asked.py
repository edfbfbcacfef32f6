"""What every Python client is asked, and of whom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

QUESTION = "今天下雨了"


@dataclass(frozen=True)
class Servers:
    """``stage`` has a key and scripted models, ``pocket`` is open and has real ones."""

    stage: str
    key: str
    pocket: str


class Weather(BaseModel):
    """What a reply of a given shape is asked for."""

    sky: Literal["晴", "雨", "雪"]
    umbrella: bool


def weather(city: str) -> str:
    """Tell the weather of a city.

    Args:
        city: its name.
    """
    return f"晴，25 度 ({city})"


def raised(ask: Callable[[], Any]) -> dict[str, Any]:
    """Which exception a request ends with, by its class and the classes above, and its status."""
    try:
        ask()
    except Exception as error:  # noqa: BLE001  # which one it is, is the question
        names = [kind.__name__ for kind in type(error).__mro__]
        return {"types": names, "status": getattr(error, "status_code", None)}
    return {"types": [], "status": None}
