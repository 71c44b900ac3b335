"""Errors of training in addition to those of taijitu_runtime.errors, under the same root."""

from __future__ import annotations

from typing import ClassVar

from taijitu_runtime.errors import TaijituError


class CheckpointError(TaijituError):
    """A file that is not a checkpoint of taijitu, or a checkpoint that does not fit its use."""


class TrainingError(TaijituError):
    """A run that cannot continue, with the step and what to try."""

    exit_code: ClassVar[int] = 1
