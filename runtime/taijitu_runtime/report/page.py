"""The frame of a page: one HTML file, readable in light and dark, without scripts and without the network."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

VISIBLE_SIDE = 160
"""CSS pixels that a small picture is enlarged to, as far as a whole multiple of its size allows."""

# --right and --wrong shade cells under text, so they are pale on white and deep on black.
_STYLE = """
:root { color-scheme: light dark; --page: #fff; --ink: #1f2328; --muted: #59636e; --rule: #d8dee4;
  --training: #c4620a; --evaluation: #0b62c4; --right: 84 158 255; --wrong: 255 138 48; }
@media (prefers-color-scheme: dark) { :root { --page: #0f1318; --ink: #e6e9ed; --muted: #9aa5b1; --rule: #2d343d;
  --training: #f0903c; --evaluation: #5aa2ff; --right: 30 94 184; --wrong: 176 78 10; } }
* { box-sizing: border-box; }
body { margin: 2rem auto; padding: 0 1.25rem; max-width: 72rem; background: var(--page); color: var(--ink);
  font: 15px/1.45 system-ui, -apple-system, "Segoe UI", "Liberation Sans", Arial, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 1rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.5rem 0 .25rem; }
p { margin: .25rem 0 1rem; color: var(--muted); max-width: 52rem; }
dl { display: flex; flex-wrap: wrap; gap: .75rem 2.5rem; margin: 0; }
dt { color: var(--muted); font-size: .85rem; }
dd { margin: 0; font-size: 1.15rem; font-variant-numeric: tabular-nums; }
dd small { color: var(--muted); font-size: .85rem; }
svg { width: 100%; height: auto; display: block; stroke-linejoin: round; font-family: inherit; }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(21rem, 100%), 1fr)); gap: .5rem 1rem; }
.key { display: inline-block; width: 1.4rem; height: .2rem; margin: 0 .35rem .2rem .8rem; }
.wide { overflow-x: auto; }
.side { display: flex; flex-wrap: wrap; gap: 1rem 3rem; align-items: flex-start; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .5rem 0; }
th { font-weight: 600; text-align: left; white-space: nowrap; }
.list th, .list td { padding: .15rem .75rem .15rem 0; border-bottom: 1px solid var(--rule); }
.list tbody th { font-weight: 400; }
.list td, .list th.number { text-align: right; }
.list td.words { text-align: left; }
.list td.share { min-width: 6.5rem; padding-right: .5rem;
  background: linear-gradient(90deg, rgb(var(--right) / .45) var(--share), transparent var(--share))
    .5rem 50% / calc(100% - .5rem) 72% no-repeat; }
.matrix td { border: 1px solid var(--rule); text-align: center; font-size: .85rem; padding: 0 .2rem;
  height: var(--cell); min-width: var(--cell); }
.matrix th { font-size: .85rem; font-weight: 400; padding: 0 .5rem 0 0; }
.matrix thead th { writing-mode: vertical-rl; transform: rotate(180deg); padding: .4rem 0 0; vertical-align: middle; }
.matrix thead th.corner { writing-mode: initial; transform: none; vertical-align: bottom; padding: 0 .75rem .2rem 0;
  color: var(--muted); }
.matrix td.right { background: rgb(var(--right) / var(--shade)); }
.matrix td.wrong { background: rgb(var(--wrong) / var(--shade)); }
img { image-rendering: pixelated; display: block; max-width: 100%; }
img.matrix { border: 1px solid var(--rule); }
.figures { display: grid; gap: 1.25rem 1rem;
  grid-template-columns: repeat(auto-fill, minmax(max(var(--width), 9rem), 1fr)); }
pre { white-space: pre-wrap; overflow-wrap: anywhere; }
.plot { display: inline-block; width: 17.5rem; border: 1px solid var(--rule); margin: 0 1rem .5rem 0; }
figure { margin: 0; }
figcaption { font-size: .85rem; line-height: 1.35; margin-top: .35rem; overflow-wrap: anywhere; }
figcaption span { color: var(--muted); }
"""


def page(title: str, body: str) -> str:
    """Return a complete HTML document; `title` is text, `body` is HTML."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def section(heading: str, explanation: str, content: str) -> str:
    """Return a section with a heading; all three are HTML."""
    return f"<section>\n<h2>{heading}</h2>\n<p>{explanation}</p>\n{content}\n</section>"


def shortened(label: str, length: int) -> str:
    """Cut `label` to `length` characters, escaped, with the full label as a tooltip if it was cut."""
    if len(label) <= length:
        return escape(label)
    return f'<span title="{escape(label)}">{escape(label[: length - 1])}…</span>'


class Figure(NamedTuple):
    """A picture, uint8 (H, W, 3), or None, its description, as text, and the caption, as HTML."""

    pixels: NDArray[np.uint8] | None
    description: str
    caption: str


def figures(shown: Sequence[Figure]) -> str:
    """Return a grid of pictures with captions."""
    width = max((_visible_width(figure.pixels) for figure in shown if figure.pixels is not None), default=0)
    return f'<div class="figures" style="--width: {width}px">{"".join(map(_figure, shown))}</div>'


def _figure(one: Figure) -> str:
    image = "" if one.pixels is None else picture(one.pixels, _visible_width(one.pixels), one.description)
    return f"<figure>{image}<figcaption>{one.caption}</figcaption></figure>\n"


def _visible_width(pixels: NDArray[np.uint8]) -> int:
    height, width = (int(length) for length in pixels.shape[:2])
    return width * max(1, VISIBLE_SIDE // max(height, width))


def picture(pixels: NDArray[np.uint8], width: int, description: str, style: str = "") -> str:
    """Return an <img> of `pixels`, uint8 (H, W, 3) or (H, W, 4), `width` CSS pixels wide, every pixel a square."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="png")
    content = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<img class="{style}" width="{width}" alt="{escape(description)}" src="data:image/png;base64,{content}">'
