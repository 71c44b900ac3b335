"""Data written in one turn of the loop is sent together, and nothing is lost when a connection closes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from taijitu_server.http.joined_writes import LINGER_S, JoinedWrites


class Sent(asyncio.Transport):
    """A transport that keeps what was sent, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[bytes | str] = []

    def write(self, data: Any) -> None:
        self.calls.append(bytes(data))

    def write_eof(self) -> None:
        self.calls.append("eof")

    def resume_reading(self) -> None:
        self.calls.append("read")

    def close(self) -> None:
        self.calls.append("close")

    def is_closing(self) -> bool:
        return "close" in self.calls

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return f"the {name}"


def after_a_turn(
    act: Callable[[JoinedWrites], object], client_sends: bool = False, turn_s: float = 0
) -> list[bytes | str]:
    async def turn() -> list[bytes | str]:
        sent = Sent()
        act(JoinedWrites(sent, asyncio.get_running_loop(), abort_after_s=1, client_sends=lambda: client_sends))
        await asyncio.sleep(turn_s)
        return sent.calls

    return asyncio.run(turn())


@pytest.mark.parametrize(
    ("acts", "sent"),
    [
        ([("write", b"head"), ("write", b"body")], [b"headbody"]),
        ([("write", b"alone")], [b"alone"]),
        ([("write", b"last"), ("close",)], [b"last", "close"]),
        ([("write", b"a"), ("write", b"b"), ("write", b"c"), ("close",)], [b"ab", b"c", "close"]),
    ],
    ids=["an answer", "a piece of a stream", "closed at once", "more than two"],
)
def test_what_is_written_in_one_turn_leaves_in_order(acts: list[tuple[Any, ...]], sent: list[bytes | str]) -> None:
    def act(transport: JoinedWrites) -> None:
        for name, *data in acts:
            getattr(transport, name)(*data)

    assert after_a_turn(act) == sent


def test_a_client_that_sends_is_told_that_no_more_will_follow_and_closed_later() -> None:
    def act(transport: JoinedWrites) -> None:
        transport.write(b"last")
        transport.close()
        assert transport.is_closing()
        transport.write(b"too late")
        transport.close()

    assert after_a_turn(act, client_sends=True) == [b"last", "eof", "read"]
    assert after_a_turn(act, client_sends=True, turn_s=LINGER_S + 0.2) == [b"last", "eof", "read", "close"]


def test_everything_else_is_the_transports_own() -> None:
    seen: list[str] = []
    after_a_turn(lambda transport: seen.append(transport.get_extra_info("peername")))
    assert seen == ["the peername"]


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_client_that_reads_nothing_does_not_keep_a_closed_connection(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    lost: list[Exception | None] = []

    class Told(asyncio.Protocol):
        def connection_lost(self, exc: Exception | None) -> None:
            lost.append(exc)

    async def close_unsent(ours: socket.socket) -> list[Exception | None]:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(Told, sock=ours)
        joined = JoinedWrites(transport, loop, abort_after_s=0.2, client_sends=lambda: False)
        joined.write(bytes(8 << 20))
        joined.close()
        await asyncio.sleep(0.1)
        early = list(lost)
        await asyncio.sleep(0.3)
        return early

    ours, theirs = socket.socketpair()
    loop = new_loop()
    with theirs, contextlib.closing(loop):
        assert loop.run_until_complete(close_unsent(ours)) == []  # what it may still want to read
    assert lost == [None]
