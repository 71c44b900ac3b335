"""The description of the machine, on trees of files as on such machines."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from taijitu_runtime.machine import (
    at_most_cores,
    available_bytes,
    core_cache_bytes,
    is_jetson,
    processor_name,
    saturates_int8,
    usable_cores,
)
from tests.helpers.machine_tree import write_tree


@pytest.mark.parametrize(
    ("files", "environment", "expected"),
    [
        ({"etc/nv_tegra_release": "# R36 (release), REVISION: 4.3"}, {}, True),
        ({"proc/device-tree/compatible": b"nvidia,p3768-0000\0nvidia,tegra234\0"}, {}, True),
        ({"sys/firmware/devicetree/base/model": b"NVIDIA Jetson AGX Orin\0"}, {}, True),
        ({"sys/devices/soc0/family": "Tegra\n"}, {}, True),  # a container that hides the device tree
        ({}, {"L4T_VERSION": "36.4.3"}, True),
        ({}, {"L4T_VERSION": ""}, False),
        ({"proc/device-tree/model": b"Raspberry Pi 5 Model B Rev 1.0\0"}, {}, False),
        ({"etc/os-release": "ID=debian"}, {"PATH": "/usr/bin"}, False),
    ],
)
def test_a_jetson_is_known_on_the_board_and_in_its_containers(
    tmp_path: Path, files: dict[str, bytes | str], environment: dict[str, str], expected: bool
) -> None:
    assert is_jetson(write_tree(tmp_path, files), environment) is expected


@pytest.mark.parametrize(
    ("files", "name"),
    [
        ({"proc/cpuinfo": "processor\t: 0\nmodel\t\t: 1\nmodel name\t: AMD EPYC 9554\n"}, "AMD EPYC 9554"),
        (
            {"proc/cpuinfo": "processor : 0\nCPU part : 0xd42\nModel : Raspberry Pi 5 Model B\n"},
            "Raspberry Pi 5 Model B",
        ),
        ({"proc/cpuinfo": "processor : 0\n", "proc/device-tree/model": b"NVIDIA Jetson Orin\0"}, "NVIDIA Jetson Orin"),
    ],
)
def test_the_processor_has_a_name(tmp_path: Path, files: dict[str, bytes | str], name: str) -> None:
    assert processor_name(write_tree(tmp_path, files)) == name
    assert processor_name(tmp_path / "empty")


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 64),
        ({"sys/fs/cgroup/cpu.max": "max 100000\n"}, 64),
        ({"sys/fs/cgroup/cpu.max": "150000 100000\n"}, 2),
        ({"sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
        (
            {
                "proc/self/cgroup": "0::/system.slice/taijitu.service\n",
                "sys/fs/cgroup/system.slice/cpu.max": "800000 100000\n",
                "sys/fs/cgroup/system.slice/taijitu.service/cpu.max": "400000 100000\n",
            },
            4,
        ),
        (
            {
                "proc/self/cgroup": "4:memory:/a\n3:cpu,cpuacct:/docker/abc\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "300000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_quota_us": "-1\n",
            },
            3,
        ),
    ],
)
def test_cores_are_those_of_the_process_and_of_its_control_group(
    tmp_path: Path, files: dict[str, bytes | str], cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    assert usable_cores(write_tree(tmp_path, files)) == cores


def test_a_process_that_is_bound_to_a_core_has_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5})
    assert usable_cores(write_tree(tmp_path, {"sys/fs/cgroup/cpu.max": "800000 100000"})) == 1


def test_the_user_limits_the_cores_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    with at_most_cores(3), at_most_cores(0):
        assert usable_cores(tmp_path) == 3
    with at_most_cores(64):
        assert usable_cores(tmp_path) == 8
    assert usable_cores(tmp_path) == 8


@pytest.mark.parametrize(
    ("files", "megabytes"),
    [
        ({}, 8_000),
        ({"sys/fs/cgroup/memory.max": "max\n", "sys/fs/cgroup/memory.current": "1000000\n"}, 8_000),
        (
            {
                "sys/fs/cgroup/memory.max": "500000000\n",
                "sys/fs/cgroup/memory.current": "300000000\n",
                "sys/fs/cgroup/memory.stat": "anon 100000000\ninactive_file 200000000\n",
            },
            400,
        ),
        (
            {
                "proc/self/cgroup": "0::/system.slice/taijitu.service\n",
                "sys/fs/cgroup/system.slice/memory.max": "2000000000\n",
                "sys/fs/cgroup/system.slice/memory.current": "1900000000\n",
                "sys/fs/cgroup/system.slice/taijitu.service/memory.max": "1000000000\n",
                "sys/fs/cgroup/system.slice/taijitu.service/memory.current": "100000000\n",
            },
            100,
        ),
        (
            {
                "proc/self/cgroup": "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n",
                "sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes": "700000000\n",
                "sys/fs/cgroup/memory/docker/abc/memory.usage_in_bytes": "800000000\n",
                "sys/fs/cgroup/memory/docker/abc/memory.stat": "total_inactive_file 300000000\n",
            },
            200,
        ),
    ],
)
def test_free_memory_is_the_hosts_or_what_its_control_group_has_left(
    tmp_path: Path, files: dict[str, str], megabytes: int
) -> None:
    meminfo = "MemTotal:  16000000 kB\nMemAvailable:    7812500 kB\n"
    assert available_bytes(write_tree(tmp_path, {"proc/meminfo": meminfo, **files})) == megabytes * 1_000_000


@pytest.mark.parametrize(
    ("machine", "flags", "saturates"),
    [
        ("x86_64", "flags\t\t: fma avx2 vaes", True),
        ("x86_64", "flags\t\t: avx512f avx512bw", True),
        ("x86_64", "flags\t\t: avx512f avx512_vnni", False),
        ("x86_64", "flags\t\t: avx2 avx_vnni", False),
        ("x86_64", "", True),
        ("aarch64", "Features\t: fp asimd", False),
    ],
)
def test_only_x86_without_vnni_adds_products_of_bytes_in_16_bits(
    tmp_path: Path, machine: str, flags: str, saturates: bool
) -> None:
    cpuinfo: dict[str, bytes | str] = {"proc/cpuinfo": f"processor\t: 0\n{flags}\n"}
    assert saturates_int8(write_tree(tmp_path, cpuinfo), machine) is saturates


def test_the_cache_of_a_core_is_its_second_level(tmp_path: Path) -> None:
    cache = "sys/devices/system/cpu/cpu0/cache/index"
    files = {f"{cache}{n}/{name}": text for n, (level, size) in enumerate([("1", "48K"), ("2", "512K"), ("3", "4096K")])
             for name, text in (("level", level), ("size", size))}  # fmt: skip
    assert core_cache_bytes(write_tree(tmp_path, files)) == 512 * 1024
    assert core_cache_bytes(tmp_path / "nowhere") == 1024 * 1024
