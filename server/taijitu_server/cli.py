"""Serve models over HTTP.

python server/serve.py model.onnx [--host 127.0.0.1] [--port 8000]
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from taijitu_runtime.command_line import Parser, run
from taijitu_runtime.console import say
from taijitu_runtime.errors import UsageError
from taijitu_runtime.machine import limit_heaps
from taijitu_server.logs import Log, json_line, now
from taijitu_server.settings import Settings, add_flags, settings_from, shown_settings, unknown_variables

if TYPE_CHECKING:
    from taijitu_server.models.registry import Registry

HEAPS = 2  # of malloc: with one for each thread, memory grew by 11 MB in ten minutes of reloads under load


def build_parser() -> Parser:
    """Return the command line of server/serve.py and `taijitu serve`."""
    parser = Parser(prog="taijitu serve", description=__doc__)
    parser.add_argument("model", type=Path, nargs="?", help="a model file, such as model.onnx; instead of --models")
    parser.add_argument("--settings", type=Path, help="TOML file of settings; flags and TAIJITU_* take precedence")
    add_flags(parser)
    return parser


@run("taijitu serve")
def main(argv: list[str] | None = None) -> int:
    """Run the command; 0: served until SIGTERM or Ctrl-C, 2: wrong usage, model or address.

    1: workers keep dying, or the only model fails its proof.
    """
    flags = vars(build_parser().parse_args(argv))
    model, file = flags.pop("model"), flags.pop("settings")
    settings = settings_from(flags, file)
    for text in unknown_variables(os.environ):
        line = json_line({"time": now(), "level": "warning", "event": text})
        say(line.decode().rstrip(), sys.stderr)
    if (model is None) == (settings.models is None):
        got = "neither a model nor --models" if model is None else "a model and --models"
        raise UsageError(f"got {got}, expected model.onnx or --models DIR; give one of them")
    if settings.reload_by_post and (settings.workers > 1 or model is not None):
        raise UsageError("--reload-by-post needs --models and one worker; with several workers use --reload-s")
    if settings.camera and settings.workers > 1:
        raise UsageError("--camera needs one worker, as several processes cannot open the same camera")
    with listen(settings.host, settings.port) as listener:
        if settings.workers > 1:
            from taijitu_server.workers import serve_in_workers

            return serve_in_workers(lambda: _serve(model, settings, listener), settings)
        signal.signal(signal.SIGTERM, _end)  # until it serves; the first process of a container has no default for it
        _serve(model, settings, listener)
    return 0


def _end(number: int, frame: object) -> None:
    raise SystemExit(0)


def _serve(model: Path | None, settings: Settings, listener: socket.socket) -> None:
    with Log() as log:
        _load_and_serve(model, settings, listener, log)


def _load_and_serve(model: Path | None, settings: Settings, listener: socket.socket, log: Log) -> None:
    # Starlette and its users, which --help does not need.
    from taijitu_server.errors import HttpError
    from taijitu_server.metrics import Metrics
    from taijitu_server.models.registry import Registry
    from taijitu_server.run import serve

    limit_heaps(HEAPS)
    registry = Registry(settings, Metrics(), model)
    registry.load_all()
    if settings.camera:
        try:
            registry.get(settings.camera_model or None)
        except HttpError as error:
            raise UsageError(f"--camera-model: {error.text}") from None
    serve(registry, listener, log, lambda: _announce(registry, listener))


def _announce(registry: Registry, listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    at = f"[{host}]" if ":" in host else host
    say(f"serving {', '.join(registry.names())} at http://{at}:{port} (POST /classify)", sys.stdout)
    say(f"settings: {shown_settings(registry.settings)}", sys.stdout)
    sys.stdout.flush()


def listen(host: str, port: int) -> socket.socket:
    """Return a listening TCP socket. Raises UsageError with the reason where the address cannot be used."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except (OSError, OverflowError, UnicodeError, TypeError) as error:  # the last two for odd names
        raise UsageError(f"cannot listen on {host} port {port} ({error}); choose another --host or --port") from None
