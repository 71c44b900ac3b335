"""What export raises beyond the errors of taijitu_training (checkpoints) and taijitu_runtime (artefacts)."""

from __future__ import annotations

from taijitu_runtime.errors import TaijituError


class ExportError(TaijituError):
    """The artefact that was made is not right, and was not kept; the text says what was measured."""
