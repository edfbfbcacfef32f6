"""msgspec's knowledge of our types, made before threads need it.

msgspec 0.22 works out what a type is made of when it first decodes or converts to it, and another
thread that does the same meanwhile reads what is half made: the process ends by a segmentation
fault. What is worked out stays with the type.
"""

from __future__ import annotations

from contextlib import suppress

import msgspec


def prepare_structs() -> None:
    """Work out all structs that are imported by now. Call it while one thread decodes at most."""
    found = [msgspec.Struct]
    for kind in found:  # which grows meanwhile
        found += kind.__subclasses__()
    for kind in set(found):
        # Some have fields that cannot come out of JSON: nobody decodes them.
        with suppress(TypeError, NameError):
            msgspec.json.Decoder(kind)
