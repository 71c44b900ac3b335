"""The tables of docs/verify.md, which cog writes there: make docs-tables."""

from __future__ import annotations

from taijitu_export.comparison.allowances import ALLOWED_DROP_POINTS
from taijitu_export.comparison.bounds import drop_interval, pictures_to_show

PICTURES = (10, 100, 300, 1_000, 3_000, 10_000, 50_000)
OF, NEEDED = 10_000, ((0, 0), (10, 10), (50, 50), (100, 100), (200, 180))


def tables() -> str:
    """Return what n pictures show if nothing changed, and how many are needed if something did."""
    allowed = (ALLOWED_DROP_POINTS["fp16"], ALLOWED_DROP_POINTS["int8"])
    losses = (f"lost from which a drop above {points:g} is shown" for points in allowed)
    rows = [row("pictures", "shown where none changed", *losses), row(*["---"] * 4)]
    for pictures in PICTURES:
        least = (str(least_lost(pictures, points / 100)) for points in allowed)
        rows.append(row(f"{pictures:,}", f"at most {drop_interval(0, 0, pictures).points[1]:.2f} points lost", *least))
    needed = (f"pictures that show at most {points:g} points lost" for points in allowed)
    rows += ["", row("lost", "gained", *needed), row(*["---"] * 4)]
    for lost, gained in NEEDED:
        counts = (pictures_to_show(lost, gained, OF, points / 100) for points in allowed)
        cells = (f"{count:,}" if count else "none would" for count in counts)
        rows.append(row(f"{100 * lost / OF:g} %", f"{100 * gained / OF:g} %", *cells))
    return "\n".join(rows)


def row(*cells: str) -> str:
    """Return a row of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def least_lost(pictures: int, allowed: float) -> int:
    """Return the fewest pictures lost, with none gained, that show a drop above what is allowed."""
    return next(
        lost for lost in range(2, pictures + 1) if drop_interval(lost, 0, pictures).low > allowed or lost == pictures
    )
