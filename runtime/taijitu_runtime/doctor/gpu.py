"""Check NVIDIA's GPUs through the driver's own library: a Jetson and many containers have no nvidia-smi."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from taijitu_runtime.doctor.child import Reply
from taijitu_runtime.doctor.finding import Finding, ok, problem, warning
from taijitu_runtime.engine_card import RTX_COMPUTE_CAPABILITIES
from taijitu_runtime.installed import cuda_release, pip_install
from taijitu_runtime.machine import is_container, read_text

# Results of cuInit: what they mean, and the cure.
CUDA_ERRORS = {
    34: ("the CUDA toolkit's stub was loaded in place of the driver", "take .../stubs out of LD_LIBRARY_PATH"),
    100: ("the driver finds no GPU", "start a container with --gpus all; else look at: sudo dmesg | grep -i nvrm"),
    101: ("the driver finds no such GPU", "unset CUDA_VISIBLE_DEVICES"),
    802: ("the driver is still starting", "wait; on machines with NVSwitch start nvidia-fabricmanager"),
    803: ("the driver in memory is older than its libraries, as after an update", "reboot"),
    804: ("the CUDA compatibility libraries are not for this GPU", "remove cuda-compat from LD_LIBRARY_PATH"),
    999: (
        "the driver failed, as after a suspend",
        "sudo modprobe -r nvidia_uvm && sudo modprobe nvidia_uvm, or reboot",
    ),
}
NVIDIA_VENDOR = "0x10de"


def check_gpus(root: Path, reply: Reply, is_jetson: bool) -> list[Finding]:
    """Check the GPUs. `reply`: the answer to the question "cuda"."""
    cards = pci_cards(root)
    if reply.error and not cards and not is_jetson and driver_version(root) is None:
        return [ok("GPU", "none of NVIDIA's: the CPU answers")]
    if reply.error:
        return [_without_libcuda(root, reply.error, is_jetson)]
    code, cuda = reply.value["code"], reply.value["cuda"]
    if code:
        text, what_to_do = CUDA_ERRORS.get(code, (f"cuInit failed with {code}", "sudo dmesg | grep -i nvrm"))
        return [problem("GPU", f"{text} (CUDA error {code})", what_to_do)]
    versions = f"driver {driver_version(root) or 'unknown'}, CUDA up to {cuda_release(cuda)}"
    return [
        ok(
            f"GPU {index}",
            f"{device['name']}, compute capability {device['capability']}, "
            f"{device['multiprocessors']} multiprocessors, {device['memory_bytes'] / 2**30:.1f} GiB, {versions}",
        )
        for index, device in enumerate(reply.value["devices"])
    ]


def check_rtx(capabilities: list[str], is_installed: bool) -> list[Finding]:
    """Check the GPUs for TensorRT-RTX, which supports GeForce and RTX cards, but not data-centre and Jetson GPUs."""
    others = [capability for capability in capabilities if capability not in RTX_COMPUTE_CAPABILITIES]
    if not is_installed or not others:
        return []
    text = f"not made for compute capability {', '.join(others)} (only {', '.join(RTX_COMPUTE_CAPABILITIES)})"
    return [warning("TensorRT-RTX", text, f"use TensorRT: {pip_install('taijitu[gpu]')}")]


def check_cuda_release(built_for: str, newest: int) -> list[Finding]:
    """Check that the driver supports ONNX Runtime's CUDA: `built_for` such as "13.0", `newest` as 12060 for 12.6."""
    major = built_for.partition(".")[0]
    if not major.isdecimal() or int(major) <= newest // 1000:
        return []
    text = f"made for CUDA {built_for}, and the driver knows CUDA up to {cuda_release(newest)}"
    what_to_do = f"update NVIDIA's driver, or install a release of it for CUDA {newest // 1000}"
    return [problem("onnxruntime-gpu", text, what_to_do)]


def check_device_files(root: Path) -> list[Finding]:
    """Check that this user may open the device files of the driver."""
    names = ("nvidia0", "nvidiactl", "nvidia-uvm", "nvmap", "nvhost-ctrl", "nvhost-gpu")
    closed = [
        f"/dev/{name}"
        for name in names
        if (root / "dev" / name).exists() and not os.access(root / "dev" / name, os.R_OK | os.W_OK, effective_ids=True)
    ]
    if not closed:
        return []
    text = f"no permission for {', '.join(closed)}"
    return [problem("GPU files", text, "log in again after: sudo usermod -aG video,render $USER")]


def pci_cards(root: Path) -> int:
    """Return the number of NVIDIA display and compute devices on the PCI bus."""
    count = 0
    for device in (root / "sys/bus/pci/devices").glob("*"):
        vendor, kind = read_text(device / "vendor"), read_text(device / "class")
        count += vendor == NVIDIA_VENDOR and kind.startswith("0x03")
    return count


def driver_version(root: Path) -> str | None:
    """Return the version of the loaded kernel module; None without one."""
    text = read_text(root / "proc/driver/nvidia/version")
    found = re.search(r"Kernel Module(?: for \S+)?\s+([\d.]+)", text)
    return found[1] if found else None


def capabilities(reply: Reply) -> list[str]:
    """Return the compute capability of each device."""
    devices: list[dict[str, Any]] = [] if reply.error else reply.value["devices"]
    return [device["capability"] for device in devices]


def _without_libcuda(root: Path, error: str, is_jetson: bool) -> Finding:
    if is_container(root):
        flag = "--runtime nvidia" if is_jetson else "--gpus all"
        return problem("GPU", f"there is one, and this container does not have it ({error})", f"start it with {flag}")
    if is_jetson:
        return problem("GPU", f"no CUDA driver ({error})", "sudo apt-get install nvidia-l4t-cuda, then sudo ldconfig")
    if (root / "sys/module/nouveau").exists():
        return problem(
            "GPU", "there is one, driven by nouveau, which has no CUDA", "install NVIDIA's driver, and reboot"
        )
    return problem("GPU", f"there is one, and no driver for it ({error})", "install NVIDIA's driver, and reboot")
