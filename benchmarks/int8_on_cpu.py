"""Measure what int8 can gain on a CPU: ONNX Runtime's own static quantisation of a float32 file, timed and profiled.

python -m benchmarks.int8_on_cpu model.onnx [--repetitions 50]

One thread, batch 1, medians of alternating calls in one process; the profile says which operators the time goes to. The
calibration is three generated pictures, because accuracy is not measured here, only what the integer kernels cost.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import tempfile
from collections import Counter
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from benchmarks.precision import median_ms
from taijitu_export.sample_pictures import sample_pictures
from taijitu_runtime.bench.conditions import machine

SIGNED, UNSIGNED = QuantType.QInt8, QuantType.QUInt8
WAYS: dict[str, dict[str, Any]] = {
    "unsigned activations, signed weights of each channel": {"activation_type": UNSIGNED, "weight_type": SIGNED,
                                                             "per_channel": True},
    "unsigned activations and weights": {"activation_type": UNSIGNED, "weight_type": UNSIGNED},
    "signed and symmetric, as TensorRT expects": {"activation_type": SIGNED, "weight_type": SIGNED, "per_channel": True,
                                                  "extra_options": {"ActivationSymmetric": True}},
}  # fmt: skip
FLOAT = "float32"


class Pictures(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime.quantization has no types
    """Three batches of one picture, for the calibration."""

    def __init__(self, name: str, pictures: NDArray[np.uint8]) -> None:
        self._batches = iter([{name: picture[np.newaxis]} for picture in pictures])

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        """Return the next batch, None after the last."""
        return next(self._batches, None)


def main() -> int:
    """Print the latency of each way of quantising, and where the time of float32 and of the fastest goes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path, help="float32 file of `taijitu onnx`")
    parser.add_argument("--repetitions", type=int, default=50, help="calls of each file (default: %(default)s)")
    args = parser.parse_args()
    logging.disable(logging.WARNING)  # quantize_static gives advice
    print(f"{datetime.now(timezone.utc):%Y-%m-%d}, onnxruntime {ort.__version__}, {machine()}, "
          f"load of the machine {os.getloadavg()[0]:.1f}\n")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "inferred.onnx")
        quant_pre_process(args.model, source, skip_symbolic_shape=True)
        graph = onnx.load(source).graph
        taken = graph.input[0]
        pictures = sample_pictures(3, *(side.dim_value for side in taken.type.tensor_type.shape.dim[1:3]))
        files = {FLOAT: args.model}
        for number, (way, options) in enumerate(WAYS.items()):
            files[way] = Path(folder, f"{number}.onnx")
            reader = Pictures(taken.name, pictures)
            quantize_static(source, files[way], reader, quant_format=QuantFormat.QDQ, **options)
        latency_ms = median_latency_ms(files, taken.name, pictures[:1], args.repetitions)
        print("| file | ms |\n|---|---|")
        for way, ms in latency_ms.items():
            print(f"| {way} | {ms:.2f} |")
        fastest = min(WAYS, key=lambda way: latency_ms[way])
        for way in (FLOAT, fastest):
            spent_ms = profile(files[way], {taken.name: pictures[:1]}, convolutions(graph), Path(folder))
            print(f"\n| {way}: operator | ms | of {sum(spent_ms.values()):.2f} ms |\n|---|---|---|")
            for operator, ms in spent_ms.most_common(8):
                print(f"| {operator} | {ms:.2f} | {100 * ms / sum(spent_ms.values()):.0f} % |")
    return 0


def open_session(path: Path, *, profile_prefix: Path | None = None) -> ort.InferenceSession:
    """Open a session with one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if profile_prefix is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile_prefix)
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def median_latency_ms(
    files: dict[str, Path], name: str, picture: NDArray[np.uint8], repetitions: int
) -> dict[str, float]:
    """Return the median of a call in milliseconds, by file."""
    calls = {way: partial(open_session(path).run, None, {name: picture}) for way, path in files.items()}
    return median_ms(calls, repetitions)


def convolutions(graph: onnx.GraphProto) -> dict[str, str]:
    """Return the kind of each convolution, by its node's name."""
    kinds = {}
    for node in graph.node:
        if node.op_type == "Conv":
            found = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
            pointwise = max(found.get("kernel_shape", [0])) == 1
            kinds[node.name] = "depthwise" if found.get("group", 1) > 1 else "pointwise" if pointwise else "other"
    return kinds


def profile(path: Path, feed: dict[str, Any], kinds: dict[str, str], folder: Path) -> Counter[str]:
    """Return the milliseconds of a call, by operator, as ONNX Runtime's profiler measures them."""
    session = open_session(path, profile_prefix=folder / "profile")
    calls = 20
    for _ in range(calls):
        session.run(None, feed)
    spent: Counter[str] = Counter()
    for event in json.loads(Path(session.end_profiling()).read_text()):
        if event.get("cat") == "Node" and event["name"].endswith("kernel_time"):
            operator = event["args"]["op_name"]
            kind = (
                next((kind for name, kind in kinds.items() if name in event["name"]), "") if "Conv" in operator else ""
            )
            spent[f"{kind} {operator}".strip()] += event["dur"] / calls / 1e3
    return spent


if __name__ == "__main__":
    raise SystemExit(main())
