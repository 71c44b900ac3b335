"""The files of `make dist`, installed into empty environments, each of which then classifies a photograph."""

from __future__ import annotations

import json
import subprocess
import zipfile
from pathlib import Path

import pytest

from taijitu_runtime.native.build import LIBRARY
from tests.helpers.environments import clean_environment, fresh_environment, run
from tools import dist

pytestmark = pytest.mark.dist

MACHINES = {"manylinux_2_28_x86_64": 62, "manylinux_2_28_aarch64": 183}
"""By the tags of the wheels, the number of their machine in an ELF file."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the folder with everything; twine, check-wheel-contents and auditwheel have accepted it."""
    out = tmp_path_factory.mktemp("dist")
    assert dist.main(["--out", str(out)]) == 0
    return out


def the(folder: Path, ending: str) -> Path:
    (file,) = folder.glob(f"*{ending}")
    return file


def test_there_is_one_of_each(made: Path) -> None:
    endings = [".tar.gz", "-py3-none-any.whl", *(f"-py3-none-{tag}.whl" for tag in MACHINES)]
    assert sorted(made.iterdir()) == sorted(the(made, ending) for ending in endings)


@pytest.mark.parametrize("tag", MACHINES)
def test_a_platforms_wheel_has_the_native_nish_for_it(tag: str, made: Path) -> None:
    with zipfile.ZipFile(the(made, f"{tag}.whl")) as archive:
        head = archive.read(f"taijitu_runtime/native/{LIBRARY}")[:20]
    assert head[:4] == b"\x7fELF"
    assert int.from_bytes(head[18:20], "little") == MACHINES[tag]


@pytest.mark.parametrize(
    ("ending", "native"), [("-any.whl", "warning"), ("manylinux_2_28_x86_64.whl", "ok"), (".tar.gz", "ok")]
)
def test_each_installs_into_an_empty_environment_and_classifies(
    ending: str, native: str, made: Path, root: Path, shipped_onnx: Path, photograph: Path, tmp_path: Path
) -> None:
    requirement = f"taijitu[ort] @ {the(made, ending).as_uri()}"
    python = fresh_environment(tmp_path / "venv", "--constraints", root / "constraints.txt", requirement)
    command, environment = python.parent / "taijitu", clean_environment()
    done = run(command, "classify", shipped_onnx, photograph, "--json", env=environment, cwd=tmp_path)
    assert json.loads(done.stdout)["results"][0]["answers"][0]["label"] == "cat"
    # Its exit code is about the machine.
    doctor = subprocess.run([command, "doctor", "--json"], capture_output=True, check=False, env=environment)
    checks = json.loads(doctor.stdout)["checks"]
    assert {check["subject"]: check["level"] for check in checks}["native Nish"] == native
