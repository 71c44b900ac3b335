"""Serve a model over HTTP.

python server/serve.py model.onnx [--host 127.0.0.1] [--port 8000]
"""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import uvicorn

from taijitu_runtime import Classifier
from taijitu_runtime.backends.ort_provider import PROVIDER_HELP, PROVIDERS
from taijitu_runtime.console import Parser, run
from taijitu_runtime.errors import UsageError
from taijitu_server.app import create_app
from taijitu_server.settings import Settings


def build_parser() -> Parser:
    """The command line of server/serve.py and `taijitu serve`."""
    parser = Parser(prog="taijitu serve", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path, help="an artefact, such as model.onnx")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="port; 0 takes a free one (default: %(default)s)")
    parser.add_argument("--provider", choices=PROVIDERS, help=PROVIDER_HELP)
    return parser


@run("taijitu serve")
def main(argv: list[str] | None = None) -> int:
    """Exit code: 0 served until SIGTERM or Ctrl-C, 2 wrong usage, model or address."""
    args = build_parser().parse_args(argv)
    with (
        listen(args.host, args.port) as listener,
        Classifier.from_file(args.model, provider=args.provider) as classifier,
    ):
        serve(classifier, listener)
    return 0


def listen(host: str, port: int) -> socket.socket:
    """A listening TCP socket; UsageError with the reason where the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except (OSError, OverflowError) as error:
        raise UsageError(f"cannot listen on {host} port {port} ({error}); choose another --host or --port") from None


def serve(classifier: Classifier, listener: socket.socket, settings: Settings | None = None) -> None:
    """Answer requests on `listener` until SIGTERM or SIGINT; what was accepted is still answered."""
    settings = settings or Settings()
    app = create_app(classifier, settings)
    server = uvicorn.Server(
        uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=settings.shutdown_s)
    )

    def stop(*_: object) -> None:
        # For a signal before uvicorn's own handlers are in place, and the one it raises again when it is done.
        server.should_exit = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    host, port = listener.getsockname()[:2]
    at = f"[{host}]" if ":" in host else host
    print(f"serving {classifier.card.architecture.name} at http://{at}:{port} (POST /classify)", flush=True)
    server.run(sockets=[listener])
