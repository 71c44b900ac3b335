"""Measure a model in ONNX Runtime."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from taijitu_runtime.bench.onnx_network import OnnxNetwork
from taijitu_runtime.bench.queries import LayerTime, Probe, Query
from taijitu_runtime.errors import ArtefactError, UsageError, one_line, require
from taijitu_runtime.providers import CPU

KERNEL, QUERY = "_kernel_time", "model_run"


class OrtProbe(Probe):
    """The probe of an opened OnnxNetwork.

    On the CPU there is nothing to copy or to enqueue: a query is one call. On a GPU the call copies too, and ONNX
    Runtime does not report how long that takes.

    Args:
        network: The network, opened.
        feeds: An array for each of its inputs, by name.
    """

    def __init__(self, network: OnnxNetwork, feeds: dict[str, NDArray[Any]]) -> None:
        self._network, self._feeds = network, feeds
        self._outputs = [node.name for node in network.session.get_outputs()]
        self._start_s = time.perf_counter()
        self._profiled: list[dict[str, Any]] = []
        providers = network.session.get_providers()
        self.device = "CPU" if providers[0] == CPU else "GPU"
        self.absent = {
            "enqueue": "the call returns with the result",
            "h2d": "nothing is copied" if self.device == "CPU" else "within the compute time",
            "d2h": "nothing is copied" if self.device == "CPU" else "within the compute time",
        }
        self.modes = {
            "Backend": f"ONNX Runtime {require('onnxruntime', 'taijitu[ort]').__version__}, {', '.join(providers)}",
            "CPU threads": str(network.threads) if network.threads else "one for each core",
            "Data transfers": f"Absent ({self.absent['h2d']})",
            "CUDA Graph": "Absent",
        }

    def run(self, count: int) -> list[Query]:
        """As in Probe."""
        return [self._query() for _ in range(count)]

    def profile(self, count: int) -> list[LayerTime]:
        """As in Probe. ONNX Runtime counts whole microseconds, so only the average over many queries is accurate."""
        times: dict[tuple[int, str], list[float]] = {}
        self._profiled = self._kernel_events(count)
        for event in self._profiled:
            times.setdefault(_node(event), []).append(event["dur"] / 1000)
        return [LayerTime(name, found) for (_, name), found in times.items()]

    def layer_info(self) -> dict[str, Any]:
        """Return the nodes of the optimised graph in the order of their execution, with the names of trtexec's file."""
        layers = [
            {
                "Name": _name(event),
                "LayerType": event["args"]["op_name"],
                "Inputs": _tensors(event["args"].get("input_type_shape", [])),
                "Outputs": _tensors(event["args"].get("output_type_shape", [])),
                "Provider": event["args"]["provider"],
            }
            # ONNX Runtime numbers its own nodes again in each session; here they keep the names of the profile.
            for event in _first_of_each(self._profiled or self._kernel_events(1))
        ]
        return {"Layers": layers, "Bindings": [*self._feeds, *self._outputs]}

    def _query(self) -> Query:
        begin = time.perf_counter()
        self._run(self._network)
        end = time.perf_counter()
        return Query(compute=(1000 * (begin - self._start_s), 1000 * (end - self._start_s)))

    def _run(self, network: OnnxNetwork) -> None:
        try:
            network.session.run(self._outputs, self._feeds)
        except Exception as error:  # of classes of ONNX Runtime's own
            shapes = ", ".join(f"{name} {'x'.join(map(str, feed.shape))}" for name, feed in self._feeds.items())
            raise ArtefactError(
                f"{network.path}: ONNX Runtime failed on {shapes} ({one_line(error)}), expected a network that takes "
                "random input of this shape, and enough memory; choose another with --shapes"
            ) from error

    def _kernel_events(self, count: int) -> list[dict[str, Any]]:
        """Return the events of ONNX Runtime's profiler for the nodes of `count` queries, after others that warm up."""
        with tempfile.TemporaryDirectory() as folder:
            prefix = Path(folder) / "profile"
            ours = self._network
            with OnnxNetwork(ours.path, threads=ours.threads, provider=ours.provider, profile_prefix=prefix) as network:
                for _ in range(1 + count):
                    self._run(network)
                file = Path(network.session.end_profiling())
            events = json.loads(file.read_bytes())
        kernels = [event for event in events if event.get("cat") == "Node" and event["name"].endswith(KERNEL)]
        # More than one before them where opening it ran the network too, to compare layouts of Nish (nish_layout.py).
        queries = sum(event["name"] == QUERY for event in events)
        if queries < 1 + count:  # ONNX Runtime drops events beyond a million, and only logs it
            raise UsageError(
                f"got {count} queries to profile, expected at most {queries - 1} of this network, for which ONNX "
                "Runtime's profiler has room; profile with fewer --iterations"
            )
        return kernels[len(kernels) * (queries - count) // queries :]


def _name(event: dict[str, Any]) -> str:
    return str(event["name"]).removesuffix(KERNEL)


def _node(event: dict[str, Any]) -> tuple[int, str]:
    """Return what tells a node from all others: the indices begin again in the branches of an If and in a Loop."""
    return int(event["args"]["node_index"]), _name(event)


def _first_of_each(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the first event of each node, in their order."""
    found: dict[tuple[int, str], dict[str, Any]] = {}
    for event in events:
        found.setdefault(_node(event), event)
    return list(found.values())


def _tensors(described: list[dict[str, list[int]]]) -> list[dict[str, Any]]:
    return [{"Format/Datatype": kind, "Dimensions": shape} for tensor in described for kind, shape in tensor.items()]
