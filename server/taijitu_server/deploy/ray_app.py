"""Write a model as a Ray Serve application.

taijitu ray-app model.onnx --out app
"""

from __future__ import annotations

import json
import shlex
import shutil
import tempfile
from pathlib import Path
from typing import Any

from taijitu_runtime.classifier import Classifier
from taijitu_runtime.console import Parser, run
from taijitu_runtime.errors import UsageError
from taijitu_server.deploy.onnx_file import check_onnx_file
from taijitu_server.models.names import name_from_card

CONFIG, MODEL = "serve.yaml", "model.onnx"
DEPLOYMENT = "Classifier"


def build_parser() -> Parser:
    """The command line of `taijitu ray-app`."""
    parser = Parser(prog="taijitu ray-app", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path, help="a model.onnx")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder")
    parser.add_argument("--min-replicas", type=int, default=1, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--max-replicas", type=int, default=4, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, metavar="N",
                        help="of one inference, and processors of a replica (default: %(default)s)")  # fmt: skip
    parser.add_argument("--port", type=int, default=8000, help="of every node's proxy (default: %(default)s)")
    parser.add_argument("--mounted-at", type=Path, metavar="PATH",
                        help="where the nodes will see DIR (default: where it is now)")  # fmt: skip
    return parser


@run("taijitu ray-app")
def main(argv: list[str] | None = None) -> int:
    """Exit code: 0 written, 2 wrong usage or input."""
    args = build_parser().parse_args(argv)
    if not 1 <= args.min_replicas <= args.max_replicas or args.threads < 1:
        raise UsageError(
            f"got --min-replicas {args.min_replicas} --max-replicas {args.max_replicas} --threads {args.threads}, "
            "expected 1 <= min <= max and at least 1 thread"
        )
    if not 1 <= args.port <= 65535:
        raise UsageError(f"got --port {args.port}, expected 1 to 65535")
    if args.out.exists():
        raise UsageError(f"{args.out}: exists already; give another --out, or remove it")
    check_onnx_file(args.model)
    with Classifier.from_file(args.model) as classifier:
        name = name_from_card(classifier.card)
    seen = (args.mounted_at or args.out.resolve()) / MODEL
    config = configuration(name, seen, args.min_replicas, args.max_replicas, args.threads, args.port)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".writing-", dir=args.out.parent) as folder:
        made = Path(folder, args.out.name)
        made.mkdir()
        shutil.copyfile(args.model, made / MODEL)
        (made / CONFIG).write_text(config)
        made.rename(args.out)
    print(f"{args.out}: start it with: serve run {shlex.quote(str(args.out / CONFIG))}")
    return 0


def configuration(name: str, model: Path, least: int, most: int, threads: int, port: int) -> str:
    """Ray Serve's ServeDeploySchema as JSON, which is YAML too.

    A replica takes as many requests as the server's own queue is made for; what the proxies hold beyond that is bounded
    too, and the next one gets 503. A replica is added when those that run have half their share waiting.
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
    return (
        json.dumps({"proxy_location": "EveryNode", "http_options": http, "applications": [application]}, indent=2)
        + "\n"
    )
