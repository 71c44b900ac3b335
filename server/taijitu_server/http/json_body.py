"""Parse the JSON of a request without blocking the requests of other threads for longer than it must.

The parser holds Python's lock from the first byte to the last: 16 MB of lists took it for 3 s, most of which Python's
garbage collector spent on going through the lists that had been made so far.
"""

from __future__ import annotations

import gc
import threading
from typing import Any

import numpy as np
import orjson

from taijitu_server.errors import bad_request

SPARE_LISTS = 1000
"""Lists and objects that a request may have for parameters, outputs and mistakes, which get an error of their own."""

# Two threads at once could leave the collector disabled forever. Waiting costs nothing: only one can parse at a time.
_COLLECTOR = threading.Lock()


def content_from_json(text: bytes, most_lists: int) -> Any:
    """Parse the JSON of a request that needs at most `most_lists` lists and objects for its pictures.

    Raises:
        HttpError: 400 for text that is not JSON, or has more lists and objects.
    """
    characters = np.frombuffer(text, np.uint8)
    lists = sum(int(np.count_nonzero(characters == ord(bracket))) for bracket in "[{")
    if lists > most_lists + SPARE_LISTS:
        most = most_lists + SPARE_LISTS
        raise bad_request(f"got JSON of {lists:,} lists and objects, expected at most {most:,}; send less at a time")
    with _COLLECTOR:
        was_enabled = gc.isenabled()
        gc.disable()
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise bad_request(f"the request is not JSON: {error.msg[:100]}") from None
        finally:
            if was_enabled:
                gc.enable()
