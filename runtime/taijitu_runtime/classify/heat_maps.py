"""Write a heat map of each picture that is classified."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.answers import Prediction
from taijitu_runtime.backends.bulk import mapped
from taijitu_runtime.classifier import Classifier
from taijitu_runtime.classify.inputs import Input
from taijitu_runtime.console import shown
from taijitu_runtime.errors import PictureError, UsageError
from taijitu_runtime.files import write_whole
from taijitu_runtime.pictures.limits import Limits


class HeatMaps:
    """A file in `folder` for each picture: its name below the folder that was given, with .png behind it.

    Raises:
        UsageError: `folder` cannot be a folder, or is within one of the `given` folders, two pictures would have the
            same file, or one exists already.
    """

    def __init__(self, folder: Path, inputs: Sequence[Input], given: Sequence[Path]) -> None:
        _check_outside(folder, given)
        self._targets: dict[Input, Path] = {}
        taken: dict[Path, Input] = {}
        # A link to nothing is there too: no folder can be made in its place.
        existing = next(each for each in (folder, *folder.parents) if os.path.lexists(each))
        if not existing.is_dir():
            raise UsageError(
                f"got --explain {shown(folder)}, expected a folder or a new name, but {shown(existing)} is not a "
                "folder; give another"
            )
        for each in inputs:
            target = folder / each.name.with_name(f"{each.name.name}.png")
            if (other := taken.setdefault(target, each)) is not each:
                raise UsageError(
                    f"got {shown(other.path)} and {shown(each.path)}, which would both be drawn to {shown(target)}, "
                    "expected different names; give the folder that both are in, or one at a time"
                )
            if target.exists() or target.is_symlink():
                raise UsageError(
                    f"{shown(target)}: exists already, expected a new file; give another folder, or remove it"
                )
            self._targets[each] = target

    def __getitem__(self, one: Input) -> Path:
        return self._targets[one]

    def predict_each(
        self, classifier: Classifier, inputs: Sequence[Input], top: int, limits: Limits, threshold: float | None
    ) -> Iterator[Prediction | PictureError]:
        """Yield as `Classifier.predict_each`, and write the map of each picture's likeliest answer."""

        def explained(one: Input) -> Prediction | PictureError:
            try:
                explanation = classifier.explain(one.picture, top, limits=limits, threshold=threshold)
                pixels = explanation.draw(one.picture, limits=limits)
            except PictureError as error:
                return error
            target = self._targets[one]
            target.parent.mkdir(parents=True, exist_ok=True)
            write_whole(target, _png(pixels))
            return explanation.prediction

        return mapped(explained, inputs, classifier.backend.bulk.workers)


def _check_outside(folder: Path, given: Sequence[Path]) -> None:
    for path in given:
        if os.path.isdir(path) and folder.resolve().is_relative_to(path.resolve()):  # noqa: PTH112 (as find_pictures)
            raise UsageError(
                f"got --explain {shown(folder)}, expected a folder outside {shown(path)}: the maps in it would be "
                "classified the next time"
            )


def _png(pixels: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
