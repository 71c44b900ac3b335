"""Watch a board while models run: the power of every rail, temperatures, memory, clocks and nvpmodel's mode.

The readings come from the kernel's files, which jetson-stats reads too, ten times per second, without its service. A
machine without power monitors has no readings. Sources: the kernel's documentation of the hwmon drivers ina3221 and
ina238, and NVIDIA's Jetson Linux Developer Guide, Platform Power and Performance.
"""

from __future__ import annotations

import dataclasses
import re
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from taijitu_runtime.bench.conditions import jetson_gpu_clocks
from taijitu_runtime.machine import memory_bytes, read_text

PERIOD_S = 0.1
INPUTS = ("VIN", "VDD_IN")
"""Rails that carry the power of the whole board, in the order of preference: AGX Thor's, Orin NX's."""


@dataclasses.dataclass(frozen=True)
class Rail:
    """One rail of a power monitor: its power in watts is `unit` times the product of the numbers in `files`."""

    name: str
    files: tuple[Path, ...]
    unit: float

    def watts(self) -> float | None:
        """Return the present power; None where it cannot be read."""
        product = self.unit
        for file in self.files:
            number = _number(file)
            if number is None:
                return None
            product *= number
        return product


@dataclasses.dataclass(frozen=True)
class Board:
    """The readings while models ran.

    Attributes:
        rails_w: Mean power of each rail, in watts.
        power_rails: The rails whose sum is `power_w`: only the input's if it is measured, otherwise all.
        hottest_c: The highest temperature of each thermal zone, in degrees Celsius.
        memory_mb: The most memory in use on the whole machine, in MB.
        gpu_mhz: The lowest and the highest clock of the GPU.
        power_mode: nvpmodel's mode; "" where it is not known.
        samples: How many times the rails were read.
    """

    rails_w: Mapping[str, float]
    power_rails: tuple[str, ...]
    hottest_c: Mapping[str, float]
    memory_mb: float | None
    gpu_mhz: tuple[float, float] | None
    power_mode: str
    samples: int

    @property
    def power_w(self) -> float:
        """Mean power of the board in watts, as far as its monitors measure it."""
        return sum(self.rails_w[name] for name in self.power_rails)

    def millijoules(self, images_per_s: float) -> float:
        """Return the energy of the whole board for one image."""
        return 1e3 * self.power_w / images_per_s

    def lines(self, images_per_s: float | None) -> Iterator[str]:
        """Yield the lines of the report; with `images_per_s`, also the energy per image."""
        energy = f", {self.millijoules(images_per_s):.3g} mJ per image" if images_per_s else ""
        rails = ", ".join(f"{name} {watts:.2f} W" for name, watts in self.rails_w.items())
        yield "=== Board ==="
        yield f"Power: mean = {self.power_w:.2f} W ({' + '.join(self.power_rails)}){energy}"
        yield f"Rails: {rails} (means of {self.samples} samples)"
        if self.hottest_c:
            yield "Temperature: " + ", ".join(f"{name} {degrees:.1f} C" for name, degrees in self.hottest_c.items())
        if self.memory_mb is not None:
            yield f"Memory in use: at most {self.memory_mb:.0f} MB of the whole board"
        if self.gpu_mhz is not None:
            yield f"GPU clock: {self.gpu_mhz[0]:.0f} to {self.gpu_mhz[1]:.0f} MHz"
        yield f"Power mode: {self.power_mode or 'not known'}"

    def to_dict(self, images_per_s: float | None) -> dict[str, Any]:
        """Return the readings for --json; `energy_mj` is per image, null if several models took turns."""
        energy = self.millijoules(images_per_s) if images_per_s else None
        return {"power_w": self.power_w, "energy_mj": energy, **dataclasses.asdict(self)}


class BoardWatch:
    """Reads the board in a thread while the `with` block runs; `board` then has the readings, None without monitors."""

    def __init__(self, root: Path = Path("/")) -> None:
        self.board: Board | None = None
        self._root = root
        self._rails = rails(root)
        self._zones = [
            zone for zone in sorted(root.glob("sys/class/thermal/thermal_zone*")) if _number(zone / "temp") is not None
        ]
        self._gpus = jetson_gpu_clocks(root / "sys")
        self._watts: dict[str, list[float]] = {rail.name: [] for rail in self._rails}
        self._hottest: dict[str, float] = {}
        self._memory: list[float] = []
        self._clocks: list[float] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="board", daemon=True)

    def __enter__(self) -> BoardWatch:
        if self._rails:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if not self._rails:
            return
        self._stop.set()
        self._thread.join()
        means = {name: sum(watts) / len(watts) for name, watts in self._watts.items() if watts}
        if not means:
            return
        inputs = [name for name in INPUTS if name in means]
        self.board = Board(
            rails_w=means,
            power_rails=tuple(inputs[:1] or means),
            hottest_c=self._hottest,
            memory_mb=max(self._memory, default=None),
            gpu_mhz=(min(self._clocks), max(self._clocks)) if self._clocks else None,
            power_mode=power_mode(self._root),
            samples=max(map(len, self._watts.values())),
        )

    def _run(self) -> None:
        due = time.monotonic()
        while True:
            self._read()
            due = max(due + PERIOD_S, time.monotonic())
            if self._stop.wait(due - time.monotonic()):
                return

    def _read(self) -> None:
        for rail in self._rails:
            watts = rail.watts()
            if watts is not None:
                self._watts[rail.name].append(watts)
        for zone in self._zones:
            millidegrees, name = _number(zone / "temp"), read_text(zone / "type")
            if millidegrees is not None:
                self._hottest[name] = max(self._hottest.get(name, millidegrees / 1e3), millidegrees / 1e3)
        self._clocks += [clock / 1e6 for gpu in self._gpus if (clock := _number(gpu / "cur_freq")) is not None]
        memory = memory_bytes(self._root)
        if {"MemTotal", "MemAvailable"} <= memory.keys():
            self._memory.append((memory["MemTotal"] - memory["MemAvailable"]) / 1e6)


def rails(root: Path) -> list[Rail]:
    """Return the rails of the INA3221 and INA238 monitors of a Jetson, one for each name."""
    found: dict[str, Rail] = {}
    for monitor in sorted(root.glob("sys/class/hwmon/hwmon*")):
        kind = read_text(monitor / "name")
        if kind == "ina3221":
            for number in (1, 2, 3):  # higher numbers are the voltages of shunts, or their sum
                name = read_text(monitor / f"in{number}_label")
                files = (monitor / f"in{number}_input", monitor / f"curr{number}_input")  # mV and mA
                if name and name != "NC" and all(_number(file) is not None for file in files):
                    found.setdefault(name, Rail(name, files, 1e-6))
        elif kind == "ina238" and _number(monitor / "power1_input") is not None:
            found.setdefault("VIN", Rail("VIN", (monitor / "power1_input",), 1e-6))  # microwatts
    return list(found.values())


def power_mode(root: Path) -> str:
    """Return nvpmodel's present mode, such as "MAXN (0)"; "" where it is not known."""
    mode = re.search(r"pmode:(\d+)", read_text(root / "var/lib/nvpmodel/status"))
    if mode is None:
        return ""
    number = int(mode[1])
    models = re.findall(r"POWER_MODEL\s+ID=(\d+)\s+NAME=(\w+)", read_text(root / "etc/nvpmodel.conf"))
    names = {int(each): name for each, name in models}
    return f"{names[number]} ({number})" if number in names else str(number)


def _number(file: Path) -> float | None:
    try:
        return float(read_text(file))
    except ValueError:
        return None
