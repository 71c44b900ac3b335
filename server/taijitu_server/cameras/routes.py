"""The cameras over HTTP: their state, their pictures as MJPEG, their results on a WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import orjson
from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from taijitu_server.cameras.camera import Camera
from taijitu_server.cameras.cameras import Cameras
from taijitu_server.cameras.latest_value import LatestValue
from taijitu_server.cameras.mjpeg import BOUNDARY
from taijitu_server.errors import HttpError
from taijitu_server.http.connection import CONNECTION
from taijitu_server.http.origin import check_origin
from taijitu_server.state import ServerState

POLL_S = 0.5  # how soon a watcher notices that the server is shutting down
TELL_S = 1.0
STUCK_S = 5.0  # a viewer that takes nothing for this long is given up
SUBPROTOCOL = "taijitu"
RESTART = 1012  # what uvicorn says too, whoever is first


def add_camera_routes(app: FastAPI, state: ServerState, cameras: Cameras) -> None:
    """Add what there is below /cameras/{name}."""

    @app.get("/cameras/{name}", tags=["cameras"])
    async def camera(name: str) -> dict[str, Any]:
        """State, age of the newest frame, rates, counts and the latest answers."""
        return cameras.get(name).status()

    @app.get("/cameras/{name}/stream", tags=["cameras"], response_class=Response)
    async def stream(name: str) -> Response:
        """MJPEG (multipart/x-mixed-replace). While no frames come, the last one, darkened, says so once a second."""
        found = cameras.get(name)
        if not found.is_on:
            raise HttpError(503, "camera_off", f"{name} is {found.state}")
        return FrameStream(found, state)

    @app.post("/cameras/{name}/start", tags=["cameras"])
    async def start(name: str, request: Request) -> dict[str, Any]:
        """Open the camera; only with --camera-control."""
        _check_control(state, request.headers)
        found = cameras.get(name)
        await found.start()
        return found.status()

    @app.post("/cameras/{name}/stop", tags=["cameras"])
    async def stop(name: str, request: Request) -> dict[str, Any]:
        """Give the camera back; only with --camera-control."""
        _check_control(state, request.headers)
        found = cameras.get(name)
        await found.stop()
        return found.status()

    @app.websocket("/cameras/{name}/results")
    async def results(socket: WebSocket, name: str) -> None:
        try:
            check_origin(socket.headers.get("origin", ""), socket.headers.get("host", ""), state.settings)
            found = cameras.get(name)
        except HttpError as error:
            return await _deny(socket, error)
        await _tell_results(found, state, socket)

    @app.websocket("/{path:path}")
    async def nowhere(socket: WebSocket, path: str) -> None:
        socket.scope.pop("route")  # it is counted with all others that are unknown
        await _deny(socket, HttpError(404, "path", "no such path; see /docs"))


async def _deny(socket: WebSocket, error: HttpError) -> None:
    await socket.send_denial_response(JSONResponse({"error": error.text}, status_code=error.status))


def _check_control(state: ServerState, headers: Mapping[str, str]) -> None:
    if not state.settings.camera_control:
        raise HttpError(403, "camera_control", "starting and stopping cameras is off; the server has --camera-control")
    check_origin(headers.get("origin", ""), headers.get("host", ""), state.settings)


@contextmanager
def _watching(newest: LatestValue[Any]) -> Iterator[None]:
    newest.watchers += 1
    try:
        yield
    finally:
        newest.watchers -= 1


class FrameStream(Response):
    """The newest part whenever the client has taken the last one."""

    media_type = "multipart/x-mixed-replace; boundary=frame"

    def __init__(self, camera: Camera, state: ServerState) -> None:
        self.status_code = 200
        self.background = None
        self.body = b""
        self._camera = camera
        self._state = state
        self.init_headers({"Cache-Control": "no-store", "Cross-Origin-Resource-Policy": "same-origin"})
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        gone = asyncio.ensure_future(_until_gone(receive))
        try:
            with _watching(self._camera.parts):
                async for part in self._parts(gone):
                    sent = send({"type": "http.response.body", "body": part, "more_body": True})
                    await asyncio.wait_for(sent, STUCK_S)
            await asyncio.wait_for(send({"type": "http.response.body", "body": b""}), STUCK_S)
        except asyncio.TimeoutError:
            connection = scope["extensions"][CONNECTION]["connection"]
            connection.transport.abort()
            await gone
        finally:
            gone.cancel()

    async def _parts(self, gone: asyncio.Future[None]) -> AsyncIterator[bytes]:
        yield BOUNDARY
        parts = self._camera.parts
        number = parts.number
        while not (gone.done() or self._state.is_draining):
            part = await parts.after(number, POLL_S)
            if part is not None:
                number = parts.number
                yield part
            elif not self._camera.is_on:
                return


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _tell_results(camera: Camera, state: ServerState, socket: WebSocket) -> None:
    protocols = socket.scope["subprotocols"]
    await socket.accept(SUBPROTOCOL if SUBPROTOCOL in protocols else None)
    gone = asyncio.ensure_future(_until_closed(socket))
    number, told_s = -1, 0.0
    try:
        while not (gone.done() or state.is_draining):
            await camera.news.after(number, POLL_S)
            now_s = time.monotonic()
            if camera.news.number != number or now_s - told_s >= TELL_S:
                number, told_s = camera.news.number, now_s
                await asyncio.wait_for(socket.send_text(orjson.dumps(camera.status()).decode()), STUCK_S)
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
