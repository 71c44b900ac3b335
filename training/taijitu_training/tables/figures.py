"""Draw the papers' figures from the results of the same table."""

from __future__ import annotations

from collections.abc import Sequence

from taijitu_training.figures.sweep import Panel, sweep_png
from taijitu_training.tables.results import Result, out_of
from taijitu_training.tables.tables import ACTIVATIONS, NOISE, Plan, Table

_UNITS = {"top1": "accuracy (%)", "loss": "loss (nats)"}


def figure_png(table: Table, plans: Sequence[Plan], results: Sequence[Result]) -> bytes | None:
    """Draw panels_of as PNG; None for a table without any."""
    panels = panels_of(table, plans, results)
    if not panels:
        return None
    recipe, seeds = plans[0].recipe, len({planned.recipe.seed for planned in plans})
    caption = f"{results[0]['data']}, {out_of(recipe.epochs, plans[0].full_epochs)} epochs, n = {seeds}"
    return sweep_png(table.title.partition(" (")[0], caption, panels)


def panels_of(table: Table, plans: Sequence[Plan], results: Sequence[Result]) -> list[Panel]:
    """Return the curves of a table along depth or noise, from its results in the order of `plans`; none for others."""
    runs = list(zip(plans, results, strict=True))
    if table.along == "depth":
        return _along_depth(table, runs)
    return _along_noise(runs) if table.along == "noise" else []


def _along_depth(table: Table, runs: Sequence[tuple[Plan, Result]]) -> list[Panel]:
    panels = []
    for column in table.columns:
        curves: dict[str, dict[float, list[float]]] = {label: {} for label in ACTIVATIONS}
        for planned, result in runs:
            curve = curves[_label(planned)]
            curve.setdefault(planned.architecture.options["depth"], []).append(result["numbers"][column])
        panels.append(Panel(_UNITS[column], "hidden layers", curves))
    return panels


def _along_noise(runs: Sequence[tuple[Plan, Result]]) -> list[Panel]:
    panels = []
    for depth in sorted({planned.architecture.options["depth"] for planned, _ in runs}):
        curves: dict[str, dict[float, list[float]]] = {label: {sd: [] for sd in NOISE} for label in ACTIVATIONS}
        for planned, result in runs:
            if planned.architecture.options["depth"] == depth:
                for sd, losses in curves[_label(planned)].items():
                    losses.append(result["numbers"][f"loss_at_{sd:.1f}"])
        panels.append(Panel(f"loss (nats), {depth} layers", "standard deviation of the noise", curves))
    return panels


def _label(planned: Plan) -> str:
    act = planned.architecture.options["act"]
    return next(label for label, name in ACTIVATIONS.items() if name == act)
