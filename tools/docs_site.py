"""Hooks of mkdocs for the documentation as a site (mkdocs.yml): the repository's pages, with their links adapted.

A link to a page becomes one inside the site, a link to another file of the repository becomes that file's name, and
missing targets stay unchanged, so that mkdocs reports them.
"""

from __future__ import annotations

import inspect
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import taijitu

ROOT = Path(__file__).parent.parent
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")
# The pages outside docs/, by their path in the repository.
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    "examples/README.md": "examples/index.md",
    **{
        f"examples/{page.parent.name}/README.md": f"examples/{page.parent.name}.md"
        for page in ROOT.glob("examples/*/*.md")
    },
}
SOURCES = {site: source for source, site in PAGES.items()}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from outside docs/, and the API reference."""
    for source, site in PAGES.items():
        files.append(File.generated(config, site, content=(ROOT / source).read_text()))
    files.append(File.generated(config, "reference.md", content=reference()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn the repository's links into links inside the site."""
    here = page.file.src_uri
    folder = posixpath.dirname(SOURCES.get(here, f"docs/{here}"))

    def inside(link: re.Match[str]) -> str:
        text, target, anchor = link[1], link[2], link[3] or ""
        if "://" in target:
            return link[0]
        place = posixpath.normpath(posixpath.join(folder, target))
        if (ROOT / place).is_dir():
            place = f"{place}/README.md" if (ROOT / place / "README.md").exists() else place
        site = PAGES.get(place, place.removeprefix("docs/") if place.startswith("docs/") else None)
        if site is not None:
            return f"[{text}]({posixpath.relpath(site, posixpath.dirname(here) or '.')}{anchor})"
        return text if (ROOT / place).exists() else link[0]

    return LINK.sub(inside, markdown)


def reference() -> str:
    """Return a page of every public name, from its docstring: functions, classes, errors."""
    kinds: dict[str, list[str]] = {"Functions": [], "Classes": [], "Errors": []}
    for name in taijitu.__all__:
        value = getattr(taijitu, name)
        if inspect.isclass(value):
            kinds["Errors" if issubclass(value, Exception) else "Classes"].append(name)
        elif callable(value):
            kinds["Functions"].append(name)
    lines = [
        "# Reference",
        "",
        "All public names of `taijitu`, from the code. How they fit together: [the Python interface](api.md).",
    ]
    for title, names in kinds.items():
        lines += ["", f"## {title}"]
        for name in names:
            lines += ["", f"::: taijitu.{name}"]
    return "\n".join(lines) + "\n"
