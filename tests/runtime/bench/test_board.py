"""The readings that `taijitu bench` takes from a board.

The trees are written from the kernel's documentation of the drivers and NVIDIA's Jetson Linux Developer Guide; they
were not recorded on boards.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from taijitu_runtime.bench.board import Board, BoardWatch, rails
from tests.helpers.machine_tree import Files, write_tree
from tests.helpers.waiting import eventually

NVPMODEL = """
< POWER_MODEL ID=0 NAME=MAXN_SUPER >
CPU_ONLINE CORE_0 1
< POWER_MODEL ID=1 NAME=25W >
"""


def ina3221(number: int, **channels: tuple[int, int]) -> Files:
    """Return the files of one monitor: millivolts and milliamperes of its channels by label."""
    folder = f"sys/class/hwmon/hwmon{number}"
    files: dict[str, str | bytes] = {f"{folder}/name": "ina3221\n", f"{folder}/in7_label": "sum of shunt voltages\n"}
    for channel, (label, (millivolts, milliamperes)) in enumerate(channels.items(), 1):
        files[f"{folder}/in{channel}_label"] = f"{label}\n"
        files[f"{folder}/in{channel}_input"] = f"{millivolts}\n"
        files[f"{folder}/curr{channel}_input"] = f"{milliamperes}\n"
    return files


OTHERS: Files = {
    "sys/class/hwmon/hwmon0/name": "pwmfan\n",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "48500\n",
    "sys/class/thermal/thermal_zone1/type": "gpu-thermal\n",
    "sys/class/thermal/thermal_zone1/temp": "47250\n",
    "proc/meminfo": "MemTotal:        7990000 kB\nMemFree:         1000 kB\nMemAvailable:    5990000 kB\n",
    "var/lib/nvpmodel/status": "pmode:0001 fmode:quiet\n",
    "etc/nvpmodel.conf": NVPMODEL,
}
ORIN_GPU: Files = {"sys/class/devfreq/17000000.gpu/cur_freq": "918000000\n"}
ORIN_NANO = {
    **OTHERS,
    **ORIN_GPU,
    **ina3221(1, VDD_IN=(5000, 1400), VDD_CPU_GPU_CV=(5000, 500), VDD_SOC=(5000, 300)),
}
ORIN_NX = OTHERS | ORIN_GPU | ina3221(1, VDD_IN=(5000, 2000), VDD_CPU_GPU_CV=(5000, 600), VDD_SOC=(5000, 400))
AGX_ORIN = {
    **OTHERS,
    **ORIN_GPU,
    **ina3221(1, VDD_GPU_SOC=(20000, 300), VDD_CPU_CV=(20000, 100), VIN_SYS_5V0=(5000, 800)),
    **ina3221(2, NC=(0, 0), VDDQ_VDD2_1V8AO=(5000, 200)),
}
THOR = {
    **OTHERS,
    **ina3221(1, VDD_GPU=(12000, 1000), VDD_CPU_SOC_MSS=(12000, 500), VIN_SYS_5V0=(5000, 1000)),
    "sys/class/hwmon/hwmon2/name": "ina238\n",
    "sys/class/hwmon/hwmon2/power1_input": "31500000\n",
    "sys/class/devfreq/gpu-gpc-0/cur_freq": "918000000\n",
    "sys/class/devfreq/gpu-nvd-0/cur_freq": "315000000\n",  # of its video engines
}


def watched(root: Path) -> Board | None:
    with BoardWatch(root) as watch:
        eventually(lambda: reads(watch) >= 2 or not rails(root))
    return watch.board


def reads(watch: BoardWatch) -> int:
    return max(map(len, watch._watts.values()), default=0)


@pytest.mark.parametrize(
    ("files", "power_rails", "power_w"),
    [
        (ORIN_NANO, ("VDD_IN",), 7.0),
        (ORIN_NX, ("VDD_IN",), 10.0),
        (AGX_ORIN, ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO"), 13.0),
        (THOR, ("VIN",), 31.5),
    ],
    ids=["orin-nano", "orin-nx", "agx-orin", "thor"],
)
def test_the_power_of_a_board_is_that_of_its_input_or_the_sum_of_its_rails(
    tmp_path: Path, files: Files, power_rails: tuple[str, ...], power_w: float
) -> None:
    board = watched(write_tree(tmp_path, files))
    assert board is not None
    assert board.power_rails == power_rails
    assert board.power_w == pytest.approx(power_w)
    assert board.samples >= 2
    assert board.millijoules(1000.0) == pytest.approx(power_w)
    assert board.hottest_c == {"cpu-thermal": 48.5, "gpu-thermal": 47.25}
    assert board.memory_mb == pytest.approx(2000000 * 1024 / 1e6)
    assert board.gpu_mhz == (918.0, 918.0)
    assert board.power_mode == "25W (1)"
    text = "\n".join(board.lines(200.0))
    assert f"{power_w * 5:.3g} mJ per image" in text
    assert "mJ" not in "\n".join(board.lines(None))


def test_a_mean_ignores_failed_reads(tmp_path: Path) -> None:
    root = write_tree(tmp_path, ORIN_NX)
    current = root / "sys/class/hwmon/hwmon1/curr1_input"
    with BoardWatch(root) as watch:
        eventually(lambda: reads(watch) >= 1)
        current.write_text("4000\n")
        eventually(lambda: watch._watts["VDD_IN"][-1] > 15.0)
        current.unlink()  # a monitor that can no longer be read
        others = len(watch._watts["VDD_SOC"])
        eventually(lambda: len(watch._watts["VDD_SOC"]) > others + 1)
        assert len(watch._watts["VDD_IN"]) < len(watch._watts["VDD_SOC"])
    assert watch.board is not None
    assert 10.0 < watch.board.power_w < 20.0


def test_a_rail_that_cannot_be_read_is_left_out_and_the_rest_is_measured(tmp_path: Path) -> None:
    root = write_tree(tmp_path, ORIN_NX)
    monitor = root / "sys/class/hwmon/hwmon1"
    (monitor / "curr2_input").unlink()
    (monitor / "curr2_input").mkdir()  # reading it is an error, also for root
    (monitor / "in3_input").write_text("unknown\n")
    board = watched(root)
    assert board is not None
    assert dict(board.rails_w) == {"VDD_IN": pytest.approx(10.0)}
    for name in ("curr1_input", "in1_input"):
        (monitor / name).write_text("")
    assert watched(root) is None


def test_a_machine_without_monitors_has_no_readings(tmp_path: Path) -> None:
    assert rails(tmp_path) == []
    assert watched(write_tree(tmp_path, OTHERS)) is None
