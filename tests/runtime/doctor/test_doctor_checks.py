"""The doctor's checks of Python, packages, libraries and taijitu's own files, on real folders."""

from __future__ import annotations

import os
from importlib.metadata import distributions
from pathlib import Path

import pytest

from taijitu_runtime import native
from taijitu_runtime.doctor import folders, libraries, models, packages, probe, system
from taijitu_runtime.doctor.child import Imported, Reply
from taijitu_runtime.doctor.finding import Finding
from taijitu_runtime.errors import MissingDependencyError
from taijitu_runtime.installed import installed_versions, pip_install
from tests.helpers.machine_tree import Tree, only, virtual


def test_pythonpath_of_another_python_is_a_problem(tmp_path: Path) -> None:
    interpreter = virtual(tmp_path / "venv", (3, 12))
    ros = "/opt/ros/humble/lib/python3.10/site-packages:/home/me/lib"
    found = only(system.check_python_path(interpreter, {"PYTHONPATH": ros}), "problem")
    assert found.text == "/opt/ros/humble/lib/python3.10/site-packages is of another Python than this 3.12"
    assert system.check_python_path(interpreter, {"PYTHONPATH": "/home/me/lib"}) == []
    assert system.check_python_path(interpreter, {}) == []


@pytest.mark.parametrize(
    ("version", "bits", "level"), [((3, 10), 64, "ok"), ((3, 15), 64, "warning"), ((3, 11), 32, "problem")]
)
def test_the_python(tmp_path: Path, version: tuple[int, int], bits: int, level: str) -> None:
    only([system.check_python(virtual(tmp_path / "venv", version), bits, "aarch64")], level)


def install(folder: Path, name: str, version: str, tag: str) -> None:
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "WHEEL").write_text(f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: {tag}\n")


def test_both_onnx_runtimes_are_a_problem(tmp_path: Path) -> None:
    install(tmp_path, "onnxruntime", "1.23.2", "cp310-cp310-manylinux_2_27_x86_64")
    install(tmp_path, "opencv_python", "4.12.0.88", "cp37-abi3-manylinux2014_x86_64")
    names = installed_versions(distributions(path=[str(tmp_path)]))
    assert names == {"onnxruntime": "1.23.2", "opencv-python": "4.12.0.88"}
    assert packages.check_onnx_runtimes(names) == []
    assert packages.check_opencvs(names) == []
    install(tmp_path, "onnxruntime_gpu", "1.23.2", "cp310-cp310-manylinux_2_27_x86_64")
    install(tmp_path, "opencv_python_headless", "4.12.0.88", "cp37-abi3-manylinux2014_x86_64")
    names = installed_versions(distributions(path=[str(tmp_path)]))
    found = only(packages.check_onnx_runtimes(names), "problem")
    assert found.cure == "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu"
    assert "opencv-python and opencv-python-headless" in only(packages.check_opencvs(names), "warning").text


def test_a_wheel_for_another_processor_is_named(tmp_path: Path) -> None:
    install(tmp_path, "numpy", "2.2.6", "cp310-cp310-manylinux_2_17_aarch64")
    install(tmp_path, "typing_extensions", "4.1", "py3-none-any")
    assert packages.check_wheels(distributions(path=[str(tmp_path)]), (3, 10), "aarch64").level == "ok"
    install(tmp_path, "pillow", "11.0", "cp310-cp310-manylinux_2_28_x86_64")
    found = only([packages.check_wheels(distributions(path=[str(tmp_path)]), (3, 10), "aarch64")], "problem")
    assert found.text == "not for Python 3.10 on aarch64: pillow (cp310-cp310-manylinux_2_28_x86_64)"


def test_a_package_whose_description_is_damaged_is_named_and_hides_no_other(tmp_path: Path) -> None:
    install(tmp_path, "numpy", "2.2.6", "cp310-cp310-manylinux_2_17_aarch64")
    for name in ("empty", "nameless", "bytes"):
        (tmp_path / f"{name}-1.0.dist-info").mkdir()
    (tmp_path / "nameless-1.0.dist-info" / "WHEEL").write_text("Tag: cp38-cp38-win_amd64\n")
    (tmp_path / "bytes-1.0.dist-info" / "METADATA").write_bytes(b"Name: \xff\xfe\n")
    there = list(distributions(path=[str(tmp_path)]))
    found = only(packages.check_descriptions(there), "warning")
    assert all(f"{tmp_path}/{name}-1.0.dist-info" in found.text for name in ("empty", "nameless", "bytes"))
    assert packages.check_wheels(there, (3, 10), "aarch64").text.startswith("1 installed")
    assert installed_versions(there) == {"numpy": "2.2.6"}
    assert packages.check_descriptions(distributions(name="numpy", path=[str(tmp_path)])) == []


@pytest.mark.parametrize(
    ("tag", "is_fit"),
    [
        ("cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64", True),
        ("cp311-cp311t-linux_x86_64", True),
        ("cp37-abi3-manylinux2014_x86_64", True),
        ("py2.py3-none-any", True),
        ("py3-none-linux_x86_64", True),
        ("cp312-abi3-linux_x86_64", False),
        ("cp310-cp310-linux_x86_64", False),
        ("cp311-cp311-linux_aarch64", False),
        ("py2-none-any", False),
    ],
)
def test_which_wheels_fit(tag: str, is_fit: bool) -> None:
    assert packages.fits(tag, (3, 11), "x86_64") == is_fit


def test_a_tensorrt_copied_from_another_python_is_found_out(tree: Tree, tmp_path: Path) -> None:
    folder = tree({"site-packages/tensorrt/tensorrt.cpython-310-aarch64-linux-gnu.so": b""}) / "site-packages/tensorrt"
    broken = Imported("tensorrt", "broken", error="No module named 'tensorrt.tensorrt'")
    here = virtual(tmp_path / "venv", (3, 12))
    found = only([libraries.check_library(broken, "tensorrt", here, folder, has_gpu=True)], "problem")
    assert "has binaries for Python 3.10, and this is 3.12" in found.text
    assert found.cure.startswith("pip install --force-reinstall tensorrt; ")
    assert found.cure.endswith("python3.10 -m venv --system-site-packages DIR")


def test_a_missing_package_is_not_a_problem_unless_nothing_can_answer(tmp_path: Path) -> None:
    here = virtual(tmp_path / "venv")
    imported = {name: Imported(name, "absent") for name in libraries.LIBRARIES}
    for one in imported.values():
        assert libraries.check_library(one, one.module, here, None, has_gpu=False).level == "ok"
    assert only(libraries.check_any_answers(imported), "problem").cure == pip_install("taijitu[ort]")
    imported["onnxruntime"] = Imported("onnxruntime", "loaded", "1.31.1", "/x/onnxruntime/__init__.py")
    assert libraries.check_any_answers(imported) == []


def test_tensorrt_without_cuda_bindings() -> None:
    imported = {name: Imported(name, "absent") for name in libraries.LIBRARIES}
    assert libraries.check_engines_can_answer(imported, has_gpu=True) == []
    imported["tensorrt"] = Imported("tensorrt", "loaded", "10.3.0", "/x/tensorrt/__init__.py")
    found = only(libraries.check_engines_can_answer(imported, has_gpu=True), "problem")
    assert found.text == "tensorrt cannot answer without cuda-bindings"
    assert libraries.check_engines_can_answer(imported, has_gpu=False) == []


def test_a_provider_that_does_not_load_matters_where_there_is_a_gpu() -> None:
    missing = Reply(("libx.so.1 is missing", "install it"))
    assert libraries.check_provider("cuda", Reply(), has_gpu=True).level == "ok"
    assert libraries.check_provider("cuda", missing, has_gpu=False).level == "ok"
    assert only([libraries.check_provider("cuda", missing, has_gpu=True)], "problem").cure == "install it"
    assert only([libraries.check_provider("tensorrt", missing, has_gpu=True)], "warning").cure == "install it"
    assert "SIGSEGV" in only([libraries.check_provider("cuda", Reply(error="SIGSEGV"), has_gpu=True)], "problem").text


def test_the_native_nish(nish_library: Path, tmp_path: Path) -> None:
    def check(library: Path, reply: Reply) -> Finding:
        machine = libraries.elf_machine(nish_library)
        return libraries.check_native_nish(library, reply, machine)

    assert libraries.elf_machine(nish_library) == os.uname().machine
    only([check(nish_library, Reply())], "ok")
    assert only([check(tmp_path / "gone.so", Reply())], "warning").text == f"not built: {native.LOST}"
    assert "bad" in only([check(nish_library, Reply(error="bad"))], "warning").text
    foreign = bytearray(nish_library.read_bytes())
    foreign[18] = 183 if foreign[18] == 62 else 62
    (tmp_path / "foreign.so").write_bytes(foreign)
    assert " is for " in only([check(tmp_path / "foreign.so", Reply(error="?"))], "warning").text


def test_the_cache_folder(tmp_path: Path) -> None:
    place = {"XDG_CACHE_HOME": str(tmp_path)}
    folder = tmp_path / "taijitu"
    assert only([folders.check_cache(place)], "ok").text.startswith(f"{folder}, ")
    folder.chmod(0o777)
    found = only([folders.check_cache(place)], "warning")
    assert f"other users can write to {folder}" in found.text
    assert found.cure == f"chmod go-w {folder}"
    folder.rmdir()
    folder.touch()
    assert only([folders.check_cache(place)], "warning").cure.endswith("export XDG_CACHE_HOME=DIR")


def test_a_file_that_could_not_be_tried_gets_the_cure_of_its_error(tmp_path: Path) -> None:
    missing = tmp_path / "missing.onnx"
    found = models.check_model(missing, Reply(list(probe.prove(str(missing)))))
    assert (found.level, "no such file" in found.text) == ("problem", True)
    assert found.cure == "check the path"
    no_gpu = ["not tried", "got no usable GPU (no driver), expected a driver and a GPU; try nvidia-smi"]
    assert models.check_model(Path("m.engine"), Reply(no_gpu)).cure == "try nvidia-smi"
    for folder, rest, cure in (
        (tmp_path / "a; b", "got no file, expected one", "see docs/proof.md"),
        (tmp_path / "a; b", "got no file, expected one; copy it again; see docs", "copy it again; see docs"),
        (tmp_path, str(MissingDependencyError("onnxruntime", "taijitu[ort]")), pip_install("taijitu[ort]")),
    ):
        found = models.check_model(folder / "m.onnx", Reply(["not tried", f"{folder}/m.onnx: {rest}"]))
        assert (found.cure, str(folder / "m.onnx") in found.text) == (cure, True)
    differs = ["failed", "not proven: another answer to 3 of 16; 13 of 16 answers the same"]
    assert "taijitu onnx" in models.check_model(Path("m.onnx"), Reply(differs)).cure
