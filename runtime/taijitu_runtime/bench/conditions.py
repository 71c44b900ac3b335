"""Warn of conditions that make a measurement less reliable: variable clocks, other programs, a busy host."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
from pathlib import Path

from taijitu_runtime.machine import processor_name, read_text, usable_cores

CPU_CLOCKS = "devices/system/cpu/cpu[0-9]*/cpufreq"
JETSON_GPU = "class/devfreq/*gpu*"
FIXED_GOVERNOR = "performance"
MOST_LOAD_PERCENT = 5.0
MOST_STOLEN_PERCENT = 1.0
LOW_CLOCK = 0.9
"""Share of the highest clock; a GPU under load that runs below it is throttled."""


@dataclasses.dataclass(frozen=True)
class CpuTimes:
    """Clock ticks of all CPUs since the start: busy ones, those taken by the host, all; and those of this process."""

    busy: int
    stolen: int
    all: int
    ours: float

    @classmethod
    def now(cls) -> CpuTimes | None:
        """Return the present ticks; None if the system has no /proc/stat."""
        try:
            line = Path("/proc/stat").read_text().partition("\n")[0]
        except OSError:
            return None
        times = os.times()
        ours = (times.user + times.system + times.children_user + times.children_system) * os.sysconf("SC_CLK_TCK")
        return cls.from_line(line, ours)

    @classmethod
    def from_line(cls, line: str, ours: float) -> CpuTimes:
        """Parse the first line of /proc/stat: cpu user nice system idle iowait irq softirq steal."""
        user, nice, system, idle, waiting, irq, softirq, stolen = map(int, line.split()[1:9])
        busy = user + nice + system + irq + softirq
        return cls(busy, stolen, busy + idle + waiting + stolen, ours)


def load_warnings(before: CpuTimes | None, after: CpuTimes | None) -> list[str]:
    """Return warnings where other programs or the host took too much of the CPUs in between."""
    if before is None or after is None or after.all <= before.all:
        return []
    whole = after.all - before.all
    others = 100 * (after.busy - before.busy - (after.ours - before.ours)) / whole
    stolen = 100 * (after.stolen - before.stolen) / whole
    warnings = []
    if others > MOST_LOAD_PERCENT:
        warnings.append(f"Other programs took {others:.0f}% of the CPUs in the meantime. Stop them and measure again.")
    if stolen > MOST_STOLEN_PERCENT:
        warnings.append(f"The host of this virtual machine took {stolen:.0f}% of the CPUs in the meantime.")
    return warnings


def clock_warnings(device: str, system: Path = Path("/sys")) -> list[str]:
    """Return warnings about clocks that are not fixed, as the system shows them right after a run.

    `device` is "CPU" or "GPU".
    """
    warnings = []
    floating = [folder for folder in system.glob(CPU_CLOCKS) if not _is_fixed(folder)]
    governors = {read_text(folder / "scaling_governor") for folder in floating} - {FIXED_GOVERNOR, ""}
    if governors:
        warnings.append(
            f"The CPU's clock is not fixed (governor {', '.join(sorted(governors))}). "
            "sudo cpupower frequency-set -g performance fixes it."
        )
    if device == "GPU":
        warnings += _jetson_warnings(system) or _nvidia_smi_warnings()
    return warnings


def gpu_clock_warnings(answer: str) -> list[str]:
    """Return warnings about nvidia-smi's line "clock, highest clock", in MHz."""
    try:
        clock, highest = (float(part) for part in answer.splitlines()[0].split(","))
    except (ValueError, IndexError):
        return []
    if clock >= LOW_CLOCK * highest:
        return []
    return [f"The GPU ran at {clock:.0f} of {highest:.0f} MHz. sudo nvidia-smi -lgc {highest:.0f} fixes its clock."]


def machine() -> str:
    """Return the processor's name and the number of CPUs that this process may use."""
    return f"{processor_name()}, {usable_cores()} CPUs"


def jetson_gpu_clocks(system: Path) -> list[Path]:
    """Return the folders of a Jetson's GPU clocks, without that of Thor's video engines (gpu-nvd)."""
    return [folder for folder in sorted(system.glob(JETSON_GPU)) if "nvd" not in folder.name]


def _is_fixed(cpu: Path) -> bool:
    # jetson_clocks keeps the governor, and makes the lowest clock the highest.
    lowest = read_text(cpu / "scaling_min_freq")
    return lowest != "" and lowest == read_text(cpu / "scaling_max_freq")


def _jetson_warnings(system: Path) -> list[str]:
    for folder in jetson_gpu_clocks(system):
        lowest, highest = (read_text(folder / name) for name in ("min_freq", "max_freq"))
        if lowest != highest:
            return ["The GPU's clock is not fixed. sudo nvpmodel -m 0 && sudo jetson_clocks fixes it."]
    return []


def _nvidia_smi_warnings() -> list[str]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    command = [program, "--query-gpu=clocks.sm,clocks.max.sm", "--format=csv,noheader,nounits"]
    return gpu_clock_warnings(subprocess.run(command, capture_output=True, text=True, check=False).stdout)
