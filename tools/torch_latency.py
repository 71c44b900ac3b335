"""Measure a checkpoint's network in PyTorch: as it is, and compiled by torch.compile.

python -m tools.torch_latency ckpt.pt [--device cuda] [--seconds 3]

One picture, normalised before; prints one JSON object with the median of each in milliseconds, `null` with a `note`
where torch.compile fails.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from taijitu_training import checkpoint

WARM_UP = 10


def main() -> int:
    """Print the latencies."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--device", default="cpu", help="as for torch.device (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=3.0, help="of calls of each (default: %(default)s)")
    args = parser.parse_args()
    loaded = checkpoint.load(args.checkpoint)
    model = loaded.model().eval().to(args.device)
    picture = torch.randn(1, 3, loaded.input["height"], loaded.input["width"], device=args.device)
    found: dict[str, float | str | None] = {
        "eager_ms": median_ms(model, picture, args.seconds),
        "compiled_ms": None,
    }
    try:
        found["compiled_ms"] = median_ms(torch.compile(model, mode="reduce-overhead"), picture, args.seconds)
    except Exception as error:  # torch.compile raises errors of nearly any class
        found["note"] = (str(error).splitlines() or [type(error).__name__])[0]
    print(json.dumps(found))
    return 0


@torch.inference_mode()
def median_ms(model: Callable[[torch.Tensor], torch.Tensor], picture: torch.Tensor, seconds: float) -> float:
    """Return the median of the calls of so many seconds in milliseconds, each until the logits are on the host."""
    for _ in range(WARM_UP):
        model(picture).cpu()
    times_ms: list[float] = []
    while sum(times_ms) < seconds * 1e3:
        began = time.perf_counter()
        model(picture).cpu()
        times_ms.append((time.perf_counter() - began) * 1e3)
    return statistics.median(times_ms)


if __name__ == "__main__":
    raise SystemExit(main())
