"""The doctor's checks of Jetsons, GPUs and cameras, on trees of files as on such machines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from taijitu_runtime.doctor import camera, gpu, jetson, outside, system
from taijitu_runtime.doctor.child import Reply
from taijitu_runtime.machine import is_jetson
from tests.helpers.machine_tree import Files, Tree, as_nobody, only, virtual

NV_TEGRA_RELEASE = (
    "# R{0} (release), REVISION: {1}, GCID: 38968081, BOARD: generic, EABI: aarch64, "
    "DATE: Wed Jan  8 01:49:37 UTC 2025\n"
    "# KERNEL_VARIANT: oot\nTARGET_USERSPACE_LIB_DIR=nvidia\n"
)
DPKG_STATUS = """Package: libnvinfer10
Status: install ok installed
Architecture: arm64
Version: 10.3.0.30-1+cuda12.5
Description: TensorRT runtime libraries

Package: python3-libnvinfer
Status: deinstall ok config-files
Version: 10.3.0.30-1+cuda12.5

Package: nvidia-jetpack
Status: install ok installed
Version: 6.2+b77
"""
ORIN: Files = {
    "etc/nv_tegra_release": NV_TEGRA_RELEASE.format(36, "4.3"),
    "proc/device-tree/model": b"NVIDIA Jetson Orin Nano Developer Kit\0",
    "var/lib/dpkg/status": DPKG_STATUS,
    "usr/lib/python3.10/dist-packages/tensorrt/__init__.py": "",
    "usr/lib/python3.10/dist-packages/tensorrt/tensorrt.so": b"\x7fELF",
    "usr/lib/python3.10/dist-packages/cv2/python-3.10/cv2.cpython-310-aarch64-linux-gnu.so": b"\x7fELF",
}


# Jetson


def test_an_environment_that_hides_the_systems_tensorrt(tree: Tree, tmp_path: Path) -> None:
    root = tree(ORIN)
    hidden = virtual(tmp_path / "venv")
    found = only(outside.check_system_tensorrt(root, hidden, is_visible=False, is_jetson=True), "problem")
    assert "python3.10/dist-packages/tensorrt" in found.text
    assert found.cure.startswith(f"/usr/bin/python3 -m venv --system-site-packages {tmp_path / 'venv'}")
    assert outside.check_system_sight(hidden).level == "warning"
    spaced = virtual(tmp_path / "my venv")
    assert f"--system-site-packages '{tmp_path}/my venv' " in outside.check_system_sight(spaced).cure
    seeing = virtual(tmp_path / "venv", system_packages=True)
    assert outside.check_system_sight(seeing).level == "ok"
    assert outside.check_system_tensorrt(root, seeing, is_visible=True, is_jetson=True) == []
    assert outside.check_system_tensorrt(tree({}) / "empty", hidden, is_visible=False, is_jetson=True) == []


def test_a_python_that_apt_does_not_know(tree: Tree) -> None:
    conda = system.Interpreter((3, 10), Path("/opt/conda"), Path("/opt/conda"))
    found = only(outside.check_system_tensorrt(tree(ORIN), conda, is_visible=False, is_jetson=True), "problem")
    assert found.cure == "/usr/bin/python3 -m venv --system-site-packages DIR"
    assert outside.check_system_sight(conda).cure == found.cure
    assert outside.check_system_sight(system.Interpreter((3, 10), Path("/usr"), Path("/usr"))).level == "ok"


def test_an_environment_of_another_python_than_tensorrts(tree: Tree, tmp_path: Path) -> None:
    other = virtual(tmp_path / "venv", (3, 12), system_packages=True)
    found = only(outside.check_system_tensorrt(tree(ORIN), other, is_visible=False, is_jetson=True), "problem")
    assert "it is for Python 3.10, and this is 3.12" in found.text
    assert found.cure == "/usr/bin/python3.10 -m venv --system-site-packages DIR"
    assert only([jetson.check_l4t(tree(ORIN), other)], "warning").cure == found.cure


@pytest.mark.parametrize(
    ("release", "revision", "level", "text"),
    [
        (36, "4.3", "ok", "NVIDIA Jetson Orin Nano Developer Kit, JetPack 6.2: TensorRT 10.3 for Python 3.10"),
        (36, "4.0", "ok", "JetPack 6.1: TensorRT 10.3"),
        (36, "4.7", "ok", "JetPack 6.2.1: TensorRT 10.3"),
        (36, "3.0", "ok", "JetPack 6.0: TensorRT 8.6"),
        (35, "4.1", "problem", "JetPack 5: TensorRT 8.5 for Python 3.8, which is too old"),
        (38, "2.0", "warning", "JetPack 7.0: TensorRT 10.13 for Python 3.12, and this is 3.10"),
        (39, "2.1", "warning", "JetPack 7.2: TensorRT 10.16 for Python 3.12, and this is 3.10"),
        (99, "1", "warning", "does not know"),
    ],
)
def test_l4t_identifies_the_jetpack(
    tree: Tree, tmp_path: Path, release: int, revision: str, level: str, text: str
) -> None:
    root = tree({**ORIN, "etc/nv_tegra_release": NV_TEGRA_RELEASE.format(release, revision)})
    found = only([jetson.check_l4t(root, virtual(tmp_path / "venv"))], level)
    assert found.subject == f"L4T {release}.{revision}"
    assert text in found.text


def test_a_pc_is_not_a_jetson_and_a_container_on_one_is(tree: Tree, tmp_path: Path) -> None:
    assert not is_jetson(tree({"etc/os-release": "ID=debian"}))
    container = tree({"proc/device-tree/compatible": b"nvidia,p3768-0000+p3767-0005\0nvidia,tegra234\0"})
    assert is_jetson(container)
    assert "/etc/nv_tegra_release is missing" in jetson.check_l4t(container, virtual(tmp_path / "venv")).text


def test_what_apt_installed_of_jetpack(tree: Tree) -> None:
    installed = jetson.debian_packages(tree(ORIN))
    assert installed == {"libnvinfer10": "10.3.0.30-1+cuda12.5", "nvidia-jetpack": "6.2+b77"}
    found = jetson.check_apt(installed)
    assert [(one.level, one.subject, one.cure) for one in found] == [
        ("ok", "JetPack", ""),
        ("problem", "TensorRT", "sudo apt-get install python3-libnvinfer"),
    ]
    assert only(jetson.check_apt({}), "warning").cure == "sudo apt-get install nvidia-jetpack"
    assert {one.level for one in jetson.check_apt({**installed, "python3-libnvinfer": "10.3.0"})} == {"ok"}


def test_opencv_from_pip_shadows_the_jetsons(tree: Tree) -> None:
    root = tree(ORIN)
    shadow = "/home/me/venv/lib/python3.10/site-packages/cv2/__init__.py"
    found = only(outside.check_system_opencv(root, shadow, has_gstreamer=False, is_jetson=True), "problem")
    assert found.text.startswith("/home/me/venv/lib/python3.10/site-packages/cv2 has no GStreamer, and shadows ")
    assert found.cure.startswith("pip uninstall -y opencv-python ")
    assert outside.check_system_opencv(root, shadow, has_gstreamer=True, is_jetson=True) == []
    assert outside.check_system_opencv(root, shadow, has_gstreamer=False, is_jetson=False) == []


# GPU


def card(vendor: str = "0x10de", kind: str = "0x030200") -> Files:
    device = "sys/bus/pci/devices/0000:01:00.0"
    return {f"{device}/vendor": f"{vendor}\n", f"{device}/class": f"{kind}\n"}


NO_LIBCUDA = Reply(error="libcuda.so.1: cannot open shared object file: No such file or directory")


def test_a_machine_without_a_gpu_is_well(tree: Tree) -> None:
    root = tree(card(vendor="0x8086"))
    assert only(gpu.check_gpus(root, NO_LIBCUDA, is_jetson=False), "ok").text == "none of NVIDIA's: the CPU answers"


@pytest.mark.parametrize(
    ("files", "is_jetson", "text", "cure"),
    [
        ({}, False, "no driver for it", "install NVIDIA's driver, and reboot"),
        ({"sys/module/nouveau/version": ""}, False, "driven by nouveau", "install NVIDIA's driver, and reboot"),
        ({".dockerenv": ""}, False, "this container does not have it", "start it with --gpus all"),
        ({"run/.containerenv": ""}, True, "this container does not have it", "start it with --runtime nvidia"),
        ({}, True, "no CUDA driver", "sudo apt-get install nvidia-l4t-cuda, then sudo ldconfig"),
    ],
)
def test_a_gpu_without_a_driver(tree: Tree, files: Files, is_jetson: bool, text: str, cure: str) -> None:
    found = only(gpu.check_gpus(tree({**card(), **files}), NO_LIBCUDA, is_jetson), "problem")
    assert text in found.text
    assert found.cure == cure


@pytest.mark.parametrize(
    ("line", "version"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024", "550.54.15"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.4.0  Release Build  (buildbrain)", "540.4.0"),
    ],
)
def test_the_gpu_line(tree: Tree, line: str, version: str) -> None:
    root = tree({**card(), "proc/driver/nvidia/version": line})
    device = {"name": "Orin", "capability": "8.7", "multiprocessors": 8, "memory_bytes": 7_990_870_016}
    reply = Reply({"code": 0, "cuda": 12060, "devices": [device]})
    found = only(gpu.check_gpus(root, reply, is_jetson=True), "ok")
    assert found.text == f"Orin, compute capability 8.7, 8 multiprocessors, 7.4 GiB, driver {version}, CUDA up to 12.6"
    assert gpu.capabilities(reply) == ["8.7"]


@pytest.mark.parametrize(("code", "cure"), [(803, "reboot"), (100, "--gpus all"), (34, "stubs"), (12345, "dmesg")])
def test_a_driver_that_fails(tree: Tree, code: int, cure: str) -> None:
    reply = Reply({"code": code, "cuda": 12060, "devices": []})
    found = only(gpu.check_gpus(tree(card()), reply, is_jetson=False), "problem")
    assert str(code) in found.text
    assert cure in found.cure


def test_tensorrt_rtx_with_a_data_centre_gpu() -> None:
    assert "9.0" in only(gpu.check_rtx(["9.0", "8.9"], is_installed=True), "warning").text
    assert gpu.check_rtx(["9.0"], is_installed=False) == gpu.check_rtx(["8.0", "8.9"], is_installed=True) == []


@pytest.mark.parametrize(("built_for", "newest", "count"), [("13.0", 12040, 1), ("12.8", 12040, 0), ("", 12040, 0)])
def test_a_library_for_a_newer_cuda_than_the_drivers(built_for: str, newest: int, count: int) -> None:
    found = gpu.check_cuda_release(built_for, newest)
    assert len(found) == count
    for one in found:
        assert one.text == "made for CUDA 13.0, and the driver knows CUDA up to 12.4"


# cameras


@pytest.fixture
def devices() -> Iterator[Path]:
    """Make a root that every user may read, with /dev/video0, video2 and video10 and the name of one of them."""
    with TemporaryDirectory() as folder:
        root = Path(folder)
        names = root / "sys/class/video4linux/video0"
        for made in (root / "dev", names):
            made.mkdir(parents=True)
        (names / "name").write_text("HD Pro Webcam C920\n")
        for number in (10, 0, 2):
            (root / "dev" / f"video{number}").touch(mode=0o666)
            (root / "dev" / f"video{number}").chmod(0o666)
        root.chmod(0o755)
        yield root


def test_cameras_that_this_user_may_not_open(devices: Path) -> None:
    with as_nobody():
        found = camera.check_video_devices(devices)
    assert [(one.subject, one.text) for one in found] == [
        ("/dev/video0", "HD Pro Webcam C920"),
        ("/dev/video2", "unnamed"),
        ("/dev/video10", "unnamed"),
    ]
    (devices / "dev/video2").chmod(0)
    with as_nobody():
        found = camera.check_video_devices(devices)
    assert [one.level for one in found] == ["ok", "problem", "ok"]
    assert found[1].cure == "log in again after: sudo usermod -aG video $USER"


@pytest.mark.parametrize(("mark", "is_container"), [(".dockerenv", True), ("run/.containerenv", True), ("dev", False)])
def test_a_container_without_cameras_says_how_it_gets_one(tmp_path: Path, mark: str, is_container: bool) -> None:
    (tmp_path / mark).mkdir(parents=True)
    (found,) = camera.check_video_devices(tmp_path)
    assert ("--device /dev/video0" in found.text) == is_container


def test_gpu_files_that_this_user_may_not_open(devices: Path) -> None:
    (devices / "dev/nvmap").touch()
    (devices / "dev/nvmap").chmod(0)
    with as_nobody():
        found = only(gpu.check_device_files(devices), "problem")
    assert found.text == "no permission for /dev/nvmap"
    (devices / "dev/nvmap").chmod(0o666)
    with as_nobody():
        assert gpu.check_device_files(devices) == []


def test_a_missing_camera_is_not_a_problem(tree: Tree) -> None:
    only(camera.check_video_devices(tree({"dev/null": ""})), "ok")


@pytest.mark.parametrize(
    ("video", "gstreamer", "level"), [("YES", "NO", "ok"), ("NO", "YES (1.20.3)", "ok"), ("NO", "NO", "warning")]
)
def test_what_opencv_was_built_with(video: str, gstreamer: str, level: str) -> None:
    information = (
        f"  Video I/O:\n    FFMPEG:                      {video}\n    GStreamer:                   {gstreamer}\n"
    )
    only(camera.check_opencv_build(information), level)


def test_csi_cameras_need_the_plugin_and_its_daemon(tree: Tree) -> None:
    assert camera.check_argus(tree({}), is_jetson=False) == []
    assert "nvarguscamerasrc" in only(camera.check_argus(tree({"etc/x": ""}), is_jetson=True), "warning").text
    root = tree({"usr/lib/aarch64-linux-gnu/gstreamer-1.0/libgstnvarguscamerasrc.so": ""})
    assert "-v /tmp/argus_socket" in only(camera.check_argus(root, is_jetson=True), "warning").cure
    only(camera.check_argus(tree({"tmp/argus_socket": ""}), is_jetson=True), "ok")
