"""The logger of a TensorRT module, whose latest errors become the reason in an error of taijitu."""

from __future__ import annotations

import functools
import logging
from typing import Any

_log = logging.getLogger(__name__)

KEPT_MESSAGES = 4


@functools.cache
def logger_of(trt: Any) -> Any:
    """Return the logger of a TensorRT module, which keeps the first one it gets; `messages` has the latest errors."""

    class Errors(trt.ILogger):  # type: ignore[misc]  # the class is known only here
        def __init__(self) -> None:
            super().__init__()
            self.messages: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR):
                self.messages[KEPT_MESSAGES - 1 :] = [message]
            else:
                _log.debug("%s", message)

    return Errors()
