"""What an operator may change, with the defaults."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """Limits of one server process."""

    max_body_bytes: int = 16 * 2**20  # a larger request is refused with 413
    max_pending: int = 64  # requests being read, decoded or answered at once; the next one gets 503
    retry_after_s: int = 1  # what a 503 tells the client to wait
    body_timeout_s: float = 30.0  # for a request's whole body to arrive; then 408
    shutdown_s: int = 10  # for work in flight after SIGTERM
