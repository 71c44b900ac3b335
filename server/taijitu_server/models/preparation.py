"""Turn the pictures of a request into rows for a model."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.classifier import Classifier
from taijitu_runtime.errors import PictureError
from taijitu_runtime.pictures.headers import inspect
from taijitu_runtime.pictures.limits import Limits
from taijitu_server.errors import REQUEST_PIXELS, HttpError
from taijitu_server.models.batcher import Rows, Steps
from taijitu_server.settings import Settings

if TYPE_CHECKING:
    from PIL import Image

# To pass a picture to another thread and back takes about as long as to decode this many pixels.
QUICK_PIXELS = 64 * 64
QUICK_BYTES = 8192


class Preparation:
    """Checks, decodes and resizes pictures for one model, within the settings' limits; for any thread."""

    def __init__(self, classifier: Classifier, settings: Settings) -> None:
        self._classifier = classifier
        self.limits: Limits = settings.picture_limits()
        self._max_request_pixels = settings.max_request_pixels

    def rows(self, pictures: Sequence[bytes]) -> Rows | Steps:
        """Return rows for the model from picture files; for several, in steps.

        PictureError, naming the first bad one; HttpError 413 where all together have too many pixels, before any is
        decoded.
        """
        if len(pictures) == 1:
            return self._rows([self._prepared(pictures[0])])
        return self._steps(pictures)

    def row_of(self, image: Image.Image) -> Rows:
        """Return one row for the model from an image."""
        return self._rows([self._classifier.prepare(image)])

    def is_quick(self, picture: bytes) -> bool:
        """Return whether preparing a picture file takes less time than telling another thread about it.

        True for a JPEG as small as those of CIFAR-10, for a network that takes such.
        """
        taken = self._classifier.backend.input
        if len(picture) > QUICK_BYTES or taken.height * taken.width > QUICK_PIXELS:
            return False
        try:
            header = inspect(picture, self.limits)
        except PictureError:
            return True  # `rows` will refuse it
        return header.format == "JPEG" and not header.has_metadata and header.width * header.height <= QUICK_PIXELS

    def check_pixels(self, pictures: Sequence[bytes]) -> None:
        """Raise HttpError 413 where the headers of one request's pictures declare too many pixels together.

        Other faults of a picture are reported when it is decoded.
        """
        pixels = 0
        for picture in pictures:
            with contextlib.suppress(PictureError):
                header = inspect(picture, self.limits)
                pixels += header.width * header.height
        most = self._max_request_pixels
        if pixels > most:
            text = f"got {pixels} pixels in {len(pictures)} pictures, expected at most {most} in one request"
            raise HttpError(REQUEST_PIXELS, f"{text}; send fewer pictures at a time, or smaller ones")

    def _steps(self, pictures: Sequence[bytes]) -> Steps:
        self.check_pixels(pictures)
        rows = []
        for index, picture in enumerate(pictures):
            with naming(index, len(pictures)):
                rows.append(self._prepared(picture))
            yield
        return self._rows(rows)

    def _prepared(self, picture: bytes) -> NDArray[np.uint8]:
        return self._classifier.prepare(picture, self.limits)

    def _rows(self, prepared: Sequence[NDArray[np.uint8]]) -> Rows:
        return self._classifier.rows_from_prepared(np.stack(prepared))


@contextlib.contextmanager
def naming(index: int, count: int) -> Iterator[None]:
    """Say in a PictureError which of `count` pictures it is about."""
    try:
        yield
    except PictureError as error:
        if count == 1:
            raise
        raise error.named(f"picture {index}") from error
