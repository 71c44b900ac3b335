"""Explain the pictures of a request, by a session of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from taijitu_runtime.classifier import Classifier
from taijitu_runtime.errors import ArtefactError, ExplanationError
from taijitu_runtime.explain.class_maps import maps_added_to
from taijitu_runtime.explain.explanation import Explanation
from taijitu_server.errors import MODEL_REPLACED, overloaded
from taijitu_server.models.batcher import Steps
from taijitu_server.models.preparation import Preparation, naming


class Explainer:
    """The class-activation maps of one model, if it has them."""

    def __init__(self, name: str, classifier: Classifier, preparation: Preparation, retry_after_s: int) -> None:
        self._name = name
        self._classifier = classifier
        self._preparation = preparation
        self._retry_after_s = retry_after_s
        self._no_maps: ExplanationError | None = None
        try:
            maps_added_to(classifier.backend)
        except ExplanationError as error:
            self._no_maps = error

    @property
    def has_maps(self) -> bool:
        """Whether the model has class-activation maps."""
        return self._no_maps is None

    def check(self) -> None:
        """Raise ExplanationError where it has no class-activation maps."""
        if self._no_maps is not None:
            raise self._no_maps

    def steps(
        self, pictures: Callable[[], Sequence[bytes]], top: int, threshold: float | None, found: list[Explanation]
    ) -> Steps:
        """Append the explanation of each picture to `found`, in steps; return their logits, float32 (N, K).

        Errors as for `Preparation.rows`, and HttpError 503 where the file was replaced since it was loaded.
        """
        files = pictures()
        self._preparation.check_pixels(files)
        self._open_session()
        most = min(top, len(self._classifier.labels))
        for index, picture in enumerate(files):
            with naming(index, len(files)):
                limits = self._preparation.limits
                found.append(self._classifier.explain(picture, most, limits=limits, threshold=threshold))
            yield
        return np.stack([explanation.prediction.logits for explanation in found])

    def _open_session(self) -> None:
        """Open the session of the maps, which the first request does from the file."""
        try:
            self._classifier.class_maps()
        except ArtefactError as error:
            text = f"the file of {self._name} was replaced since it was loaded; try again once it is loaded again"
            raise overloaded(MODEL_REPLACED, text, self._retry_after_s) from error
