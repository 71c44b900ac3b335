"""The `taijitu` command, `python -m taijitu` too: its subcommands are the entry points of "taijitu.commands".

Each entry point is a `main(argv: list[str]) -> int`; the first line of its module's docstring is its help, and its
extras, in brackets, are what must be installed for it: one of them, where there are several.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable
from importlib.machinery import PathFinder
from importlib.metadata import EntryPoint, distributions, entry_points
from pathlib import Path

from taijitu_runtime.command_line import run
from taijitu_runtime.console import say
from taijitu_runtime.errors import MissingDependencyError, UnknownNameError
from taijitu_runtime.installed import DISTRIBUTION, name_of, normal_name, pip_install, taijitu_version

GROUP = "taijitu.commands"


@run("taijitu")
def main(argv: list[str] | None = None) -> int:
    """Run `taijitu COMMAND ...`; alone it lists the commands. The exit code is the command's, 2 for an unknown one."""
    arguments = sys.argv[1:] if argv is None else argv
    commands = {point.name: point for point in entry_points(group=GROUP)}
    if not arguments or arguments[0] in ("-h", "--help"):
        say(_overview(commands), sys.stdout)
        return 0
    name, rest = arguments[0], arguments[1:]
    if name == "--version":
        say(f"taijitu {taijitu_version()}", sys.stdout)
        return 0
    if name not in commands:
        raise UnknownNameError("command", name, commands)
    return _call(commands[name], rest)


def missing_requirements(extras: Iterable[str], requirements: Iterable[str], installed: Iterable[str]) -> set[str]:
    """Return the distributions that these extras of taijitu need and that are not installed.

    `requirements` as in the package's metadata ('onnxruntime>=1.20; extra == "ort"'), `installed`: names. A variant
    passes: onnxruntime-gpu for onnxruntime, opencv-python-headless for opencv-python. What is needed under a further
    condition, such as a version of Python, is left to the installer.
    """
    needed: set[str] = set()
    open_extras, seen = list(extras), set(extras)
    pattern = r"([\w.-]+)\s*(?:\[([^\]]*)\])?[^;]*;\s*extra\s*==\s*['\"]([\w.-]+)['\"]"
    parsed = [re.fullmatch(pattern, requirement) for requirement in requirements]
    while open_extras:
        extra = open_extras.pop()
        for name, inner in ((m[1], m[2]) for m in parsed if m and m[3] == extra):
            if normal_name(name) != DISTRIBUTION:
                needed.add(normal_name(name))
                continue
            more = {part.strip() for part in (inner or "").split(",")} - seen
            seen |= more
            open_extras += more
    names = [normal_name(name) for name in installed]
    return {need for need in needed if not any(name == need or name.startswith(f"{need}-") for name in names)}


def _call(point: EntryPoint, arguments: list[str]) -> int:
    try:
        command = point.load()
    except ImportError as error:
        module = error.name or point.module
        if module.startswith("taijitu_") or isinstance(error, MissingDependencyError):
            raise
        detail = f"needed by taijitu {point.name}" if isinstance(error, ModuleNotFoundError) else error
        raise MissingDependencyError(module, _install(point), detail) from error
    code: int = command(arguments)
    return code


def _install(point: EntryPoint) -> list[str]:
    return [f"{DISTRIBUTION}[{extra}]" for extra in point.extras] or [DISTRIBUTION]


def _overview(commands: dict[str, EntryPoint]) -> str:
    metadata = {name_of(found): found for found in distributions()}
    requirements = (metadata[DISTRIBUTION].requires if DISTRIBUTION in metadata else None) or []
    ready, lacking = [], []
    width = max(map(len, commands), default=0)
    for name, point in sorted(commands.items()):
        if point.extras and all(missing_requirements([extra], requirements, metadata) for extra in point.extras):
            lacking.append(f"  {name:<{width}}  " + pip_install(*_install(point)))
        else:
            ready.append(f"  {name:<{width}}  {_summary(point.module)}".rstrip())
    lines = [f"taijitu {taijitu_version()}", "", "usage: taijitu COMMAND ...   (taijitu COMMAND --help for more)", ""]
    lines += ready or ["  no command is installed"]
    if lacking:
        lines += ["", "not installed here:", *lacking]
    return "\n".join(lines)


def _summary(module: str) -> str:
    # Read from the source, because importing takes seconds (torch), or fails where a package is missing.
    search: list[str] | None = None
    origin: str | None = None
    parts = module.split(".")
    for depth in range(1, len(parts) + 1):
        spec = PathFinder.find_spec(".".join(parts[:depth]), search)
        if spec is None:
            return ""
        search, origin = spec.submodule_search_locations, spec.origin
    docstring = ast.get_docstring(ast.parse(Path(origin).read_bytes())) if origin else None
    return docstring.splitlines()[0] if docstring else ""
