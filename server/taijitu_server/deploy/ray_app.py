"""Write a model as a Ray Serve application.

taijitu ray-app model.onnx --out app
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

from taijitu_runtime.command_line import Parser, run
from taijitu_runtime.console import say, shown
from taijitu_runtime.errors import UsageError
from taijitu_runtime.files import new_folder
from taijitu_runtime.machine import MOST_THREADS
from taijitu_runtime.output_path import check_new_folder
from taijitu_server.deploy.onnx_file import check_mounted_at, path_in_text, read_onnx_file
from taijitu_server.models.names import name_from_card

CONFIG, MODEL = "serve.yaml", "model.onnx"
DEPLOYMENT = "Classifier"
MOST_REPLICAS = 2**31 - 1  # an int32 between Ray's processes


def build_parser() -> Parser:
    """Return the command line of `taijitu ray-app`."""
    parser = Parser(prog="taijitu ray-app", description=__doc__)
    parser.add_argument("model", type=Path, help="an ONNX file")
    parser.add_argument(
        "-o", "--out", type=Path, required=True, metavar="DIR", help="the folder to write; must not exist"
    )
    parser.add_argument("--min-replicas", type=int, default=1, metavar="N",
                        help="replicas that always run (default: %(default)s)")  # fmt: skip
    parser.add_argument("--max-replicas", type=int, default=4, metavar="N",
                        help="replicas that run under load (default: %(default)s)")  # fmt: skip
    parser.add_argument("--threads", type=int, default=1, metavar="N",
                        help="threads of one inference, and CPUs of one replica (default: %(default)s)")  # fmt: skip
    parser.add_argument("--port", type=int, default=8000, help="port of every node's proxy (default: %(default)s)")
    parser.add_argument("--mounted-at", type=Path, metavar="PATH",
                        help="path of DIR on the nodes (default: its path here)")  # fmt: skip
    return parser


@run("taijitu ray-app")
def main(argv: list[str] | None = None) -> int:
    """Run the command; 0: written, 1: the model fails its proof, 2: wrong usage or input."""
    args = build_parser().parse_args(argv)
    if not 1 <= args.min_replicas <= args.max_replicas <= MOST_REPLICAS or not 1 <= args.threads <= MOST_THREADS:
        raise UsageError(
            f"got --min-replicas {args.min_replicas} --max-replicas {args.max_replicas} --threads {args.threads}, "
            f"expected 1 <= min <= max <= {MOST_REPLICAS} and 1 to {MOST_THREADS} threads"
        )
    if not 1 <= args.port <= 65535:
        raise UsageError(f"got --port {args.port}, expected 1 to 65535")
    check_new_folder(args.out)
    check_mounted_at(args.mounted_at)
    seen = path_in_text(args.out, args.mounted_at) / MODEL
    card, _, content = read_onnx_file(args.model)
    name = name_from_card(card)
    config = configuration(name, seen, args.min_replicas, args.max_replicas, args.threads, args.port)
    with new_folder(args.out) as folder:
        (folder / MODEL).write_bytes(content)
        (folder / CONFIG).write_text(config, encoding="utf-8")
    say(shown(f"{args.out}: start it with: serve run {shlex.quote(str(args.out / CONFIG))}"), sys.stdout)
    return 0


def configuration(name: str, model: Path, least: int, most: int, threads: int, port: int) -> str:
    """Return the application's ServeDeploySchema of Ray Serve as JSON, which is also YAML.

    A replica takes 32 requests at once, well within the queue of the server, and the proxies hold at most 256 more; the
    next one gets 503. Ray adds a replica when the running ones have half of their 32 requests on average.
    """
    deployment: dict[str, Any] = {
        "name": DEPLOYMENT,
        "max_ongoing_requests": 32,
        "max_queued_requests": 256,
        "autoscaling_config": {"min_replicas": least, "max_replicas": most, "target_ongoing_requests": 16},
        "ray_actor_options": {"num_cpus": threads},
        "health_check_period_s": 2,
        "graceful_shutdown_timeout_s": 20,
    }
    application = {
        "name": name,
        "route_prefix": "/",
        "import_path": "taijitu_server.deploy.ray_application:application",
        "args": {"model": str(model), "threads": threads},
        "deployments": [deployment],
    }
    http = {"host": "127.0.0.1", "port": port}
    content = {"proxy_location": "EveryNode", "http_options": http, "applications": [application]}
    text = json.dumps(content, indent=2, ensure_ascii=False)
    # YAML takes JSON's escapes, but not two of them for one character beyond 16 bits, which stays as it is.
    return re.sub(r"[\x7f-\uffff]", lambda found: f"\\u{ord(found[0]):04x}", text) + "\n"
