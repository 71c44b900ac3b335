"""Write the table of docs/verify.md anew: python -m tools.verify_table"""

from __future__ import annotations

from pathlib import Path

from taijitu_export.comparison.allowances import ALLOWED_DROP_POINTS
from taijitu_export.comparison.bounds import drop_interval, pictures_to_show

BEGIN, END = "<!-- table: python -m tools.verify_table -->", "<!-- end of table -->"
PAGE = Path(__file__).parent.parent / "docs" / "verify.md"
PICTURES = (10, 100, 300, 1_000, 3_000, 10_000, 50_000)
NEEDED = ((0.0, 0.0), (0.001, 0.001), (0.005, 0.005), (0.01, 0.01), (0.02, 0.018))


def main() -> int:
    """Rewrite what stands between the marks."""
    PAGE.write_text(written(PAGE.read_text()))
    return 0


def written(page: str) -> str:
    """The page with the tables as the code computes them."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n\n{tables()}\n\n{END}{after}"


def tables() -> str:
    """What n pictures show where nothing changed, and how many it takes where something did."""
    allowed = (ALLOWED_DROP_POINTS["fp16"], ALLOWED_DROP_POINTS["int8"])
    head = "| pictures | drop shown where none changed | lost from which a drop above "
    head += " | lost from which a drop above ".join(f"{points:g} is shown" for points in allowed) + " |"
    rows = [head, "|---|---|---|---|"]
    for pictures in PICTURES:
        least = [least_lost(pictures, points / 100) for points in allowed]
        rows.append(
            f"| {pictures:,} | at most {drop_interval(0, 0, pictures).points[1]:.2f} points | {least[0]} | {least[1]} |"
        )
    rows += [
        "",
        "| lost | gained | " + " | ".join(f"pictures that show {points:g} points" for points in allowed) + " |",
    ]
    rows.append("|---|---|---|---|")
    for lost, gained in NEEDED:
        needed = [pictures_to_show(round(lost * 10_000), round(gained * 10_000), 10_000, x / 100) for x in allowed]
        cells = [f"{count:,}" if count else "none" for count in needed]
        rows.append(f"| {lost:.1%} | {gained:.1%} | {cells[0]} | {cells[1]} |".replace("%", " %"))
    return "\n".join(rows)


def least_lost(pictures: int, allowed: float) -> int:
    """The fewest pictures lost, and none gained, that show a drop above what is allowed."""
    return next(
        lost for lost in range(2, pictures + 1) if drop_interval(lost, 0, pictures).low > allowed or lost == pictures
    )


if __name__ == "__main__":
    raise SystemExit(main())
