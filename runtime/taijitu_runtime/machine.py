"""The machine: Jetson or not, the processor's name, the cores and memory that this process may use and give back."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import math
import os
import platform
import re
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path

ROOT = Path("/")

# Each of these is enough. Docker hides the device tree, and mounts nv_tegra_release only with NVIDIA's runtime; the
# kernel's soc0 is visible in every container.
DEVICE_TREES = ("proc/device-tree", "sys/firmware/devicetree/base")
SOC_FAMILY = "sys/devices/soc0/family"
JETSON_MODELS = ("Jetson", "Orin", "NVIDIA Thor")
JETSON_VARIABLES = ("JETSON_L4T", "JETSON_MODEL", "L4T_VERSION")
"""Environment variables that jtop and the images of jetson-containers set."""

# A virtual machine on Arm does not name its processor, and a board has its own name there.
PROCESSOR_FIELDS = ("model name", "Model", "Hardware")

X86_64 = ("x86_64", "AMD64")
VNNI = {"avx512_vnni", "avx_vnni"}
"""The flags of /proc/cpuinfo for instructions that add products of bytes in 32 bits."""

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -3, -4, -8  # of glibc's malloc.h
LARGE_BYTES = 8 * 2**20  # of a block: an image of 1080p is smaller

MOST_THREADS = 1024
"""The most that may be asked for: more than any machine has cores, and few enough to be created."""

_most_cores = ContextVar("most_cores", default=MOST_THREADS)


def is_jetson(root: Path = ROOT, environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether this is an NVIDIA Jetson, or a container on one."""
    if (root / "etc/nv_tegra_release").exists() or read_text(root / SOC_FAMILY) == "Tegra":
        return True
    for tree in DEVICE_TREES:
        if "nvidia,tegra" in read_text(root / tree / "compatible"):
            return True
        if any(name in read_text(root / tree / "model") for name in JETSON_MODELS):
            return True
    return any(environment.get(name) for name in JETSON_VARIABLES)


def is_container(root: Path = ROOT) -> bool:
    """Return whether this is a container of Docker or Podman."""
    return (root / ".dockerenv").exists() or (root / "run/.containerenv").exists()


def board_model(root: Path = ROOT) -> str:
    """Return the name of the board, such as "NVIDIA Jetson Orin Nano Developer Kit"; "" where it has none."""
    return next(filter(None, (read_text(root / tree / "model") for tree in DEVICE_TREES)), "")


def processor_name(root: Path = ROOT) -> str:
    """Return the name of the processor, or of the board, or the architecture."""
    lines = read_text(root / "proc/cpuinfo").splitlines()
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in reversed(lines))}
    named = next((fields[name] for name in PROCESSOR_FIELDS if fields.get(name)), "")
    return named or board_model(root) or platform.processor() or platform.machine()


@functools.cache  # every session asks, and /proc/cpuinfo is long where there are many cores
def saturates_int8(root: Path = ROOT, machine: str = platform.machine()) -> bool:
    """Return whether products of bytes are added in 16 bits, which two large ones exceed: on x86-64 without VNNI."""
    if machine not in X86_64:
        return False
    lines = read_text(root / "proc/cpuinfo").splitlines()
    flags = {flag for line in lines if line.startswith("flags") for flag in line.partition(":")[2].split()}
    return not flags & VNNI


def usable_cores(root: Path = ROOT) -> int:
    """Return the number of cores that this process may use, limited by its affinity, its control group and the user."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([bound, _most_cores.get(), *(math.ceil(quota) for quota in _quotas(root))]))


@contextlib.contextmanager
def at_most_cores(threads: int) -> Iterator[None]:
    """Let `usable_cores` return at most `threads` within, for the user's --threads; 0 changes nothing."""
    before = _most_cores.set(threads or _most_cores.get())
    try:
        yield
    finally:
        _most_cores.reset(before)


def limit_heaps(count: int) -> None:
    """Let all threads share `count` heaps of glibc, and return each block of LARGE_BYTES or more once it is freed.

    Otherwise each thread has a heap of its own, which keeps what it once held; and a large block that is freed raises
    the size up to which glibc takes blocks from heaps: one picture of 40 megapixels left hundreds of MB there.

    Call it before the threads start. MALLOC_ARENA_MAX and MALLOC_MMAP_THRESHOLD_ in the environment take precedence.
    """
    if "MALLOC_ARENA_MAX" not in os.environ:
        _call_libc("mallopt", M_ARENA_MAX, count)
    if "MALLOC_MMAP_THRESHOLD_" not in os.environ:
        _call_libc("mallopt", M_MMAP_THRESHOLD, LARGE_BYTES)
        _call_libc("mallopt", M_TRIM_THRESHOLD, 2 * LARGE_BYTES)  # it would no longer follow by itself


def keep_free_memory() -> None:
    """Let glibc keep freed memory for the next allocations, which otherwise have their pages mapped and zeroed again.

    For a process that allocates the same large tensors over and over, such as a training on a CPU.
    """
    for parameter, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 2**26)):
        _call_libc("mallopt", parameter, value)


def return_free_memory() -> None:
    """Return freed memory to the system where the C library can be told to; glibc keeps it between what is in use."""
    _call_libc("malloc_trim", 0)


def _call_libc(function: str, *arguments: int) -> None:
    with contextlib.suppress(AttributeError, OSError):  # another C library
        getattr(ctypes.CDLL(None), function)(*arguments)


def core_cache_bytes(root: Path = ROOT) -> int:
    """Return the bytes of a core's own level 2 cache; 1 MiB where the kernel does not say."""
    for folder in sorted((root / "sys/devices/system/cpu/cpu0/cache").glob("index*")):
        size = read_text(folder / "size")
        if read_text(folder / "level") == "2" and size.endswith("K") and size[:-1].isdecimal():
            return 1024 * int(size[:-1])
    return 1024 * 1024


def available_bytes(root: Path = ROOT) -> int:
    """Return the bytes that this process may still take without swapping, limited by the host and its control group.

    The result is 0 where the kernel does not say.
    """
    return min([memory_bytes(root).get("MemAvailable", 0), *_unused(root)])


def memory_bytes(root: Path = ROOT) -> dict[str, int]:
    """Return the host's memory in bytes by the names of /proc/meminfo, such as MemTotal."""
    fields = re.findall(r"^(\S+):\s+(\d+) kB$", read_text(root / "proc/meminfo"), re.MULTILINE)
    return {name: 1024 * int(kilobytes) for name, kilobytes in fields}


def read_text(path: Path) -> str:
    """Return the text of a file of the kernel, stripped; "" where it is missing or cannot be read."""
    try:
        return path.read_text(errors="replace").strip("\0\n ")
    except OSError:
        return ""


def _quotas(root: Path) -> Iterator[float]:
    """Yield the limit of cores of each control group above this process that has one."""
    for group in _control_groups(root, "cpu"):
        quota, _, period = read_text(group / "cpu.max").partition(" ")  # version 2: "max 100000" or "150000 100000"
        if not quota:
            quota, period = (read_text(group / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
        if quota.isdecimal() and period.isdecimal() and int(period):
            yield int(quota) / int(period)


def _unused(root: Path) -> Iterator[int]:
    """Yield the bytes that each limited control group above this process has left; its file cache counts as free."""
    for group in _control_groups(root, "memory"):
        for limit, usage, cache in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),  # version 1
        ):
            allowed, used = read_text(group / limit), read_text(group / usage)
            if allowed.isdecimal() and used.isdecimal():
                fields = dict(line.split(" ", 1) for line in read_text(group / "memory.stat").splitlines())
                yield max(0, int(allowed) - int(used) + int(fields.get(cache, 0)))


def _control_groups(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of this process's control groups, of version 1 and 2, the outermost first."""
    groups = root / "sys/fs/cgroup"
    for line in read_text(root / "proc/self/cgroup").splitlines() or ["0::/"]:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            places = [groups]
        elif controller in controllers.split(","):
            places = [groups / controller, groups / controllers]
        else:
            continue
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for place in dict.fromkeys(places):
            for depth in range(len(parts) + 1):
                yield place.joinpath(*parts[:depth])
