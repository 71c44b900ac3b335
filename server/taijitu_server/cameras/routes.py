"""The cameras over HTTP: their state, their frames as MJPEG, their results on a WebSocket."""

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

from taijitu_server.cameras.camera import NOTIFY_S, Camera
from taijitu_server.cameras.latest_value import LatestValue
from taijitu_server.cameras.mjpeg import BOUNDARY
from taijitu_server.errors import CAMERA_CONTROL, CAMERA_OFF, HttpError, overloaded
from taijitu_server.http.origin import check_origin
from taijitu_server.http.request import Request
from taijitu_server.http.response import WholeResponse
from taijitu_server.state import ServerState

POLL_S = 0.5  # time within which a stream notices that the server shuts down
SEND_TIMEOUT_S = 5.0  # of a viewer that reads nothing; then its connection is aborted
SUBPROTOCOL = "taijitu"
RESTART = 1012  # the code that uvicorn uses too


async def cameras(state: ServerState, request: Request) -> WholeResponse:
    """List every camera as `/cameras/{name}` describes it."""
    assert state.cameras is not None
    return WholeResponse(orjson.dumps([camera.status() for camera in state.cameras.by_name.values()]))


async def camera(state: ServerState, request: Request) -> WholeResponse:
    """Return state, age of the newest frame, rates, counts and the latest answers of a camera."""
    return _status(_named(state, request))


async def stream(state: ServerState, request: Request) -> FrameStream:
    """Stream the frames as MJPEG (multipart/x-mixed-replace).

    While no frames come, the stream shows the last one, darkened, with the reason, once per second.
    """
    found = _named(state, request)
    if not found.is_running:
        raise overloaded(CAMERA_OFF, f"{found.name} is {found.state}", state.settings.retry_after_s)
    return FrameStream(found, state)


async def start(state: ServerState, request: Request) -> WholeResponse:
    """Open a camera; requires --camera-control."""
    found = _controlled(state, request)
    await found.start()
    return _status(found)


async def stop(state: ServerState, request: Request) -> WholeResponse:
    """Release a camera; requires --camera-control."""
    found = _controlled(state, request)
    await found.stop()
    return _status(found)


async def results(state: ServerState, request: Request) -> Results:
    """Send the content of `/cameras/{name}` for each frame and each change of state, and once per second."""
    check_origin(request, state.settings)
    return Results(_named(state, request), state)


def _named(state: ServerState, request: Request) -> Camera:
    assert state.cameras is not None
    return state.cameras.get(request.path_values["name"])


def _controlled(state: ServerState, request: Request) -> Camera:
    if not state.settings.camera_control:
        text = "starting and stopping cameras is disabled; start the server with --camera-control"
        raise HttpError(CAMERA_CONTROL, text)
    check_origin(request, state.settings)
    return _named(state, request)


def _status(camera: Camera) -> WholeResponse:
    return WholeResponse(orjson.dumps(camera.status()))


@contextmanager
def _watching(newest: LatestValue[Any]) -> Iterator[None]:
    newest.watchers += 1
    try:
        yield
    finally:
        newest.watchers -= 1


class FrameStream:
    """An MJPEG stream: the newest part whenever the client has read the last one."""

    status = 200

    def __init__(self, camera: Camera, state: ServerState) -> None:
        self._camera = camera
        self._state = state

    async def send(self, request: Request, send: Send) -> None:
        """Send parts until the camera stops, the server shuts down or the client leaves."""
        headers = [
            (b"content-type", b"multipart/x-mixed-replace; boundary=frame"),
            (b"cache-control", b"no-store"),
            (b"cross-origin-resource-policy", b"same-origin"),
            *request.identity_headers,
        ]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        gone = asyncio.ensure_future(_until_gone(request.receive))
        try:
            if request.method != "HEAD":
                with _watching(self._camera.parts):
                    async for part in self._parts(gone):
                        sent = send({"type": "http.response.body", "body": part, "more_body": True})
                        await asyncio.wait_for(sent, SEND_TIMEOUT_S)
            await asyncio.wait_for(send({"type": "http.response.body", "body": b""}), SEND_TIMEOUT_S)
        except asyncio.TimeoutError:
            if request.connection is not None:
                request.connection.transport.abort()
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
            elif not self._camera.is_running:
                return


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class Results:
    """The status of a camera on a WebSocket."""

    status = 101

    def __init__(self, camera: Camera, state: ServerState) -> None:
        self._camera = camera
        self._state = state

    async def send(self, request: Request, send: Send) -> None:
        """Send messages until the client leaves or the server shuts down."""
        socket = WebSocket(request.scope, request.receive, send)
        subprotocol = SUBPROTOCOL if SUBPROTOCOL in request.scope["subprotocols"] else None
        await socket.accept(subprotocol, request.identity_headers)
        gone = asyncio.ensure_future(_until_closed(socket))
        updates, number, sent_s = self._camera.updates, -1, 0.0
        try:
            while not (gone.done() or self._state.is_closing):
                await updates.after(number, POLL_S)
                now_s = time.monotonic()
                if updates.number != number or now_s - sent_s >= NOTIFY_S:
                    number, sent_s = updates.number, now_s
                    text = orjson.dumps(self._camera.status()).decode()
                    await asyncio.wait_for(socket.send_text(text), SEND_TIMEOUT_S)
            if not gone.done():
                await socket.close(RESTART, "the server is shutting down")
        except (asyncio.TimeoutError, WebSocketDisconnect, RuntimeError):
            return  # the client does not read any more
        finally:
            gone.cancel()


async def _until_closed(socket: WebSocket) -> None:
    with contextlib.suppress(RuntimeError):
        while (await socket.receive())["type"] != "websocket.disconnect":
            pass
