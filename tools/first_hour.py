"""Run everything that needs a GPU or a board, in order, and write one report. `make test-gpu`.

python -m tools.first_hour [--out build/first_hour] [--data DIR]

Each network is exported, built, measured and proven on every path that this machine has: ONNX Runtime's CPU, CUDA,
TensorRT and TensorRT-RTX providers, engines with and without a CUDA graph, PyTorch as it is and compiled; then the
tests that need a GPU run. What is not here is named with its reason. OUT/report.md and OUT/report.json hold the
results; send both. Exit code 1 if anything that could run failed, or if there is no GPU.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from taijitu_runtime.backends.cuda import Gpu
from taijitu_runtime.backends.ort.plugin import MODULE as RTX_PLUGIN
from taijitu_runtime.bench.conditions import machine
from taijitu_runtime.errors import TaijituError
from taijitu_runtime.providers import PROVIDERS

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = ROOT / "checkpoints" / "yynet_small_16_cifar10.pt"
UNTRAINED = {"vgnetg_1_0mp": {}, "vgnetg_1_0mp_nish": {"act": "nish"}}
"""Networks by the name of their files: the options of the model of that name, with random weights."""
LIBRARIES = {"tensorrt": "tensorrt", "rtx": "tensorrt_rtx"}
"""The libraries that build engines, by the name of `engine --backend`: their modules."""
NO_INT8 = {"rtx": "TensorRT-RTX does not quantise activations (docs/engines.md)"}
GPU_TESTS = ("tests/contract", "tests/runtime/backends", "tests/runtime/bench")
"""Where tests that need a GPU are; the others may need packages that a board does not have."""
TIMEOUT_S = 1800
PRINTED = 20_000
"""The characters of a command's output that the report keeps, its last ones."""


@dataclasses.dataclass
class Step:
    """One command: what it shows, how it ended, the JSON that it printed, and other output."""

    subject: str
    command: list[str]
    outcome: str
    seconds: float
    note: str = ""
    found: Any = None
    printed: str = ""

    @classmethod
    def run(cls, subject: str, *command: str) -> Step:
        """Run a command; "ran" or "failed", with the last line that it printed."""
        print(f"{subject}: {' '.join(command)}", flush=True)
        began = time.monotonic()
        try:
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired:
            return cls(subject, list(command), "failed", TIMEOUT_S, f"did not end within {TIMEOUT_S} s")
        seconds = round(time.monotonic() - began, 1)
        said = (done.stderr if done.returncode else done.stdout).strip().splitlines() or [f"exit {done.returncode}"]
        try:
            found = json.loads(done.stdout)
        except ValueError:
            found = None
        outcome = "failed" if done.returncode else "ran"
        note = "" if found and not done.returncode else said[-1]
        printed = done.stderr if found else done.stdout + done.stderr
        return cls(subject, list(command), outcome, seconds, note, found, printed[-PRINTED:])

    @classmethod
    def absent(cls, subject: str, reason: str) -> Step:
        """Return a step that this machine cannot run."""
        return cls(subject, [], "not here", 0.0, reason)


@dataclasses.dataclass(frozen=True)
class Here:
    """What this machine has; each answer is a reason why not, None if it is here. `gpu`: its model and driver."""

    no_gpu: str | None
    providers: tuple[str, ...]
    gpu: str = ""

    @classmethod
    def look(cls) -> Here:
        """Look at this machine."""
        import onnxruntime

        providers = tuple(onnxruntime.get_available_providers())
        try:
            gpu = Gpu()
        except TaijituError as error:
            return cls(str(error), providers)
        try:
            return cls(None, providers, f"{gpu.model}, compute capability {gpu.model.compute_capability}, {gpu.driver}")
        finally:
            gpu.close()

    def without_provider(self, provider: str) -> str | None:
        """Return why ONNX Runtime's provider cannot run."""
        if provider == "rtx":
            found = importlib.util.find_spec(RTX_PLUGIN) is not None
        else:
            found = PROVIDERS[provider][0] in self.providers
        if not found:
            return "ONNX Runtime lacks it (docs/providers.md)"
        return None if provider == "cpu" else self.no_gpu


def main() -> int:
    """Run all steps; 1 if one failed, or without a GPU."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("build/first_hour"), help="folder of the report and the files")
    parser.add_argument("--data", type=Path, help="pictures of CIFAR-10 (train/, test/), for int8 and a training epoch")
    args = parser.parse_args()
    out, data = args.out.resolve(), args.data and str(args.data.resolve())
    out.mkdir(parents=True, exist_ok=True)
    here = Here.look()
    steps: list[Step] = [Step.run("doctor", *taijitu("doctor", "--json"))]
    for name, checkpoint in checkpoints(out).items():
        steps += network_steps(name, checkpoint, out, data, here)
        write_report(out, here, steps)
    steps += whole_steps(out, data, here)
    write_report(out, here, steps)
    failed = [step for step in steps if step.outcome == "failed"]
    print(f"{out / 'report.md'}: {sum(step.outcome == 'ran' for step in steps)} ran, {len(failed)} failed")
    if here.no_gpu:
        print(f"no path of a GPU was run: {here.no_gpu}", file=sys.stderr)
    return 1 if failed or here.no_gpu else 0


def taijitu(*arguments: str) -> list[str]:
    """Return a command of taijitu, run by this Python."""
    return [sys.executable, "-m", "taijitu", *arguments]


def checkpoints(out: Path) -> dict[str, Path]:
    """Return the shipped checkpoint, and those of random weights, which are written where they are missing."""
    from benchmarks.passes import untrained
    from taijitu_training import checkpoint

    found = {"yynet_small_16": SHIPPED}
    for name, options in UNTRAINED.items():
        found[name] = out / f"{name}.pt"
        if not found[name].exists():
            checkpoint.save(untrained(name.removesuffix("_nish"), **options), found[name])
    return found


def network_steps(name: str, checkpoint: Path, out: Path, data: str | None, here: Here) -> Iterator[Step]:
    """Run one network: exported, and on every path."""
    for device in ("cpu", "cuda"):
        subject = f"{name}: PyTorch, {device}"
        reason = here.no_gpu if device == "cuda" else None
        command = [sys.executable, "-m", "tools.torch_latency", str(checkpoint), "--device", device]
        yield Step.absent(subject, reason) if reason else Step.run(subject, *command)
    for precision in ("fp32", "int8"):
        model = out / f"{name}.{precision}.onnx"
        export = taijitu("onnx", str(checkpoint), "-o", str(model), "--precision", precision)
        if precision == "int8":
            if data is None or checkpoint != SHIPPED:
                continue
            export += ["--calibration", data]
        yield (exported := Step.run(f"{name} {precision}: export", *export))
        if exported.outcome == "ran":
            if precision == "fp32":
                yield from provider_steps(f"{name} fp32", model, here)
            yield from engine_steps(f"{name} {precision}", model, here)


def provider_steps(subject: str, model: Path, here: Here) -> Iterator[Step]:
    """Measure and prove an ONNX file on each provider of ONNX Runtime."""
    for provider in PROVIDERS:
        path = f"{subject}: ONNX Runtime, {provider}"
        if reason := here.without_provider(provider):
            yield Step.absent(path, reason)
            continue
        yield Step.run(path, *taijitu("bench", str(model), "--provider", provider, "--json"))
        yield Step.run(f"{path}: proof", *taijitu("prove", str(model), "--provider", provider, "--json"))


def engine_steps(subject: str, model: Path, here: Here) -> Iterator[Step]:
    """Build engines with each library that is installed, and measure and prove them."""
    for library, module in LIBRARIES.items():
        for flag in ("", "--fp16") if ".fp32." in model.name else ("--int8",):
            path = f"{subject}: {library} engine{f' {flag}' if flag else ''}"
            absent = None if importlib.util.find_spec(module) else f"{module} is not installed"
            if reason := absent or (NO_INT8.get(library) if flag == "--int8" else None):
                yield Step.absent(path, reason)
                continue
            plan = model.with_suffix(f".{library}{flag.replace('--', '.')}.engine")
            build = taijitu("engine", str(model), "--saveEngine", str(plan), "--backend", library, "--json")
            build += [each for each in (flag, "--skipInference" if here.no_gpu else "") if each]
            yield (built := Step.run(f"{path}: build", *build))
            if built.outcome != "ran":
                continue
            if here.no_gpu:
                yield Step.absent(path, here.no_gpu)
                continue
            yield Step.run(path, *taijitu("bench", str(plan), "--json"))
            yield Step.run(f"{path}, CUDA graph", *taijitu("bench", str(plan), "--useCudaGraph", "--json"))
            yield Step.run(f"{path}: proof", *taijitu("prove", str(plan), "--json"))


def whole_steps(out: Path, data: str | None, here: Here) -> Iterator[Step]:
    """Run the tests that need a GPU, and a training epoch."""
    if here.no_gpu:
        yield Step.absent("tests that need a GPU", here.no_gpu)
        yield Step.absent("one training epoch on the GPU", here.no_gpu)
        return
    tests = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", *GPU_TESTS]
    yield Step.run("tests that need a GPU", *tests)
    if data is None:
        yield Step.absent("one training epoch on the GPU", "needs --data")
        return
    train = taijitu(
        "train", "--model", "yynet_small_16", "--data", data, "--device", "cuda", "--recipe", "yynet_cifar10"
    )
    yield Step.run("one training epoch on the GPU", *train, "--set", "epochs=1", "--out", str(out / "trained"))


def write_report(out: Path, here: Here, steps: list[Step]) -> None:
    """Write report.json and report.md."""
    made = {"date": f"{datetime.now(timezone.utc):%Y-%m-%d}", "machine": machine(), **dataclasses.asdict(here)}
    (out / "report.json").write_text(
        json.dumps({**made, "steps": [dataclasses.asdict(step) for step in steps]}, indent=1)
    )
    lines = [f"# First hour: {machine()}", "", f"`make test-gpu`, {made['date']}. GPU: {here.gpu or 'none'}.", ""]
    lines += ["| step | outcome | median ms | s | |", "|---|---|---|---|---|"]
    for step in steps:
        lines.append(f"| {step.subject} | {step.outcome} | {latency(step.found)} | {step.seconds} | {remark(step)} |")
    (out / "report.md").write_text("\n".join(lines) + "\n")


def latency(found: Any) -> str:
    """Return the median latency in what bench or torch_latency printed, an empty text for others."""
    if isinstance(found, dict) and "models" in found:
        return ", ".join(f"{model['latency_ms']['median']:.3f}" for model in found["models"])
    if isinstance(found, dict) and "eager_ms" in found:
        compiled = found["compiled_ms"]
        return f"{found['eager_ms']:.3f}, compiled {'failed' if compiled is None else f'{compiled:.3f}'}"
    return ""


def remark(step: Step) -> str:
    """Return what a proof found, or the line that a step ended with."""
    if isinstance(step.found, dict) and "outcome" in step.found:
        far = ", ".join(f"{each['largest']:.1g} of {each['allowed']:.0g}" for each in step.found["differences"])
        return f"{step.found['outcome']}, {far} of the logit range"
    return step.note.replace("|", "\\|")


if __name__ == "__main__":
    raise SystemExit(main())
