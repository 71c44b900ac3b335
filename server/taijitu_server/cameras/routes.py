"""The cameras over HTTP: their state, their pictures as MJPEG, their results on a WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import orjson
from starlette.types import Receive, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from taijitu_server.cameras.camera import Camera
from taijitu_server.cameras.latest_value import LatestValue
from taijitu_server.cameras.mjpeg import BOUNDARY
from taijitu_server.errors import CAMERA_CONTROL, CAMERA_OFF, HttpError, overloaded
from taijitu_server.http.connection import CONNECTION
from taijitu_server.http.exchange import Call, WholeReply
from taijitu_server.http.origin import check_origin
from taijitu_server.state import ServerState

POLL_S = 0.5  # how soon a watcher notices that the server is shutting down
TELL_S = 1.0
STUCK_S = 5.0  # a viewer that takes nothing for this long is given up
SUBPROTOCOL = "taijitu"
RESTART = 1012  # what uvicorn says too, whoever is first


async def cameras(state: ServerState, call: Call) -> WholeReply:
    """Every camera as `/cameras/{name}` gives it."""
    assert state.cameras is not None
    return WholeReply(orjson.dumps([camera.status() for camera in state.cameras.by_name.values()]))


async def camera(state: ServerState, call: Call) -> WholeReply:
    """State, age of the newest frame, rates, counts and the latest answers."""
    return _status(_named(state, call))


async def stream(state: ServerState, call: Call) -> FrameStream:
    """MJPEG (multipart/x-mixed-replace).

    While no frames come, the last one, darkened, says so once a second.
    """
    found = _named(state, call)
    if not found.is_on:
        raise overloaded(CAMERA_OFF, f"{found.name} is {found.state}", state.settings.retry_after_s)
    return FrameStream(found, state)


async def start(state: ServerState, call: Call) -> WholeReply:
    """Open the camera; only with --camera-control."""
    found = _controlled(state, call)
    await found.start()
    return _status(found)


async def stop(state: ServerState, call: Call) -> WholeReply:
    """Give the camera back; only with --camera-control."""
    found = _controlled(state, call)
    await found.stop()
    return _status(found)


async def results(state: ServerState, call: Call) -> Results:
    """What `/cameras/{name}` gives, for each frame and each change of state, and once a second."""
    check_origin(call, state.settings)
    return Results(_named(state, call), state)


def _named(state: ServerState, call: Call) -> Camera:
    assert state.cameras is not None
    return state.cameras.get(call.names["name"])


def _controlled(state: ServerState, call: Call) -> Camera:
    if not state.settings.camera_control:
        raise HttpError(CAMERA_CONTROL, "starting and stopping cameras is off; the server has --camera-control")
    check_origin(call, state.settings)
    return _named(state, call)


def _status(camera: Camera) -> WholeReply:
    return WholeReply(orjson.dumps(camera.status()))


@contextmanager
def _watching(newest: LatestValue[Any]) -> Iterator[None]:
    newest.watchers += 1
    try:
        yield
    finally:
        newest.watchers -= 1


class FrameStream:
    """The newest part whenever the client has taken the last one."""

    status = 200

    def __init__(self, camera: Camera, state: ServerState) -> None:
        self._camera = camera
        self._state = state

    async def send(self, call: Call, send: Send) -> None:
        """Send parts until the camera is off, the server goes or the client leaves."""
        headers = [
            (b"content-type", b"multipart/x-mixed-replace; boundary=frame"),
            (b"cache-control", b"no-store"),
            (b"cross-origin-resource-policy", b"same-origin"),
            (b"x-request-id", call.id.encode()),
        ]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        gone = asyncio.ensure_future(_until_gone(call.receive))
        try:
            if call.method != "HEAD":
                with _watching(self._camera.parts):
                    async for part in self._parts(gone):
                        sent = send({"type": "http.response.body", "body": part, "more_body": True})
                        await asyncio.wait_for(sent, STUCK_S)
            await asyncio.wait_for(send({"type": "http.response.body", "body": b""}), STUCK_S)
        except asyncio.TimeoutError:
            connection = call.scope["extensions"][CONNECTION]["connection"]
            connection.transport.abort()
            await gone
        finally:
            gone.cancel()

    async def _parts(self, gone: asyncio.Future[None]) -> AsyncIterator[bytes]:
        yield BOUNDARY
        parts = self._camera.parts
        number = parts.number
        while not (gone.done() or self._state.is_closing):
            part = await parts.after(number, POLL_S)
            if part is not None:
                number = parts.number
                yield part
            elif not self._camera.is_on:
                return


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class Results:
    """What the camera tells, on a WebSocket."""

    status = 101

    def __init__(self, camera: Camera, state: ServerState) -> None:
        self._camera = camera
        self._state = state

    async def send(self, call: Call, send: Send) -> None:
        """Send until the client leaves or the server goes."""
        socket = WebSocket(call.scope, call.receive, send)
        subprotocol = SUBPROTOCOL if SUBPROTOCOL in call.scope["subprotocols"] else None
        await socket.accept(subprotocol, [(b"x-request-id", call.id.encode())])
        gone = asyncio.ensure_future(_until_closed(socket))
        news, number, told_s = self._camera.news, -1, 0.0
        try:
            while not (gone.done() or self._state.is_closing):
                await news.after(number, POLL_S)
                now_s = time.monotonic()
                if news.number != number or now_s - told_s >= TELL_S:
                    number, told_s = news.number, now_s
                    text = orjson.dumps(self._camera.status()).decode()
                    await asyncio.wait_for(socket.send_text(text), STUCK_S)
            if not gone.done():
                await socket.close(RESTART, "the server is shutting down")
        except (asyncio.TimeoutError, WebSocketDisconnect, RuntimeError):
            return  # it does not listen any more
        finally:
            gone.cancel()


async def _until_closed(socket: WebSocket) -> None:
    with contextlib.suppress(RuntimeError):
        while (await socket.receive())["type"] != "websocket.disconnect":
            pass
