"""The passport: an artefact's answers to generated pictures when it was made, and how far a re-run may be from them."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.fields import check_finite, check_sha256, check_text, fail, read_fields, tuple_from_list

MOST_SEEDS = 64
ALLOWED = "a share of the logit range, from 0 on"


@dataclasses.dataclass(frozen=True)
class Logits:
    """Reference logits for the pictures of a passport.

    `source`: what computed them. `allowed`: the largest difference that a re-run may have on a CPU, as a share of the
    range of the origin's logits. `data`: the logits themselves, base64 of little-endian float32, row by row.
    """

    source: str
    allowed: float
    data: str

    def __post_init__(self) -> None:
        check_text("proof.source", self.source, "what computed the logits")
        check_finite("proof.allowed", self.allowed, 0, math.inf, ALLOWED)
        if not isinstance(self.data, str):
            raise fail("proof.data", self.data, "logits as base64")

    @classmethod
    def of(cls, source: str, allowed: float, logits: NDArray[np.float32]) -> Logits:
        """Make it from logits, float32 (N, K)."""
        return cls(source, allowed, base64.b64encode(logits.astype("<f4").tobytes()).decode())

    def array(self, pictures: int, labels: int) -> NDArray[np.float32]:
        """Return the logits, float32 (pictures, labels). ArtefactError unless they are as many, and finite."""
        try:
            content = base64.b64decode(self.data, validate=True)
        except ValueError:  # binascii.Error is one; text outside ASCII raises another
            content = b""
        if len(content) != 4 * pictures * labels:
            raise fail("proof.data", self.data, f"{pictures} x {labels} numbers of float32 as base64")
        logits = np.frombuffer(content, "<f4").astype(np.float32).reshape(pictures, labels)
        if not np.isfinite(logits).all():
            raise fail("proof.data", self.data, "finite logits")
        return logits


@dataclasses.dataclass(frozen=True, kw_only=True)
class Passport:
    """The evidence by which an artefact proves itself.

    `version`: of the pictures (`generated.VERSION`), `seeds` selects them. `pixels_sha256`: for each, the sha256 of the
    uint8 RGB array that the network gets. `labels_sha256`: of the labels in their order. `origin`: the logits of its
    origin, the network in PyTorch or the adopted file, in float32; `allowed_on_gpu`: how far a GPU, which multiplies
    float32 with fewer bits, may be from them. `own`: the logits of the artefact itself when it was made;
    None where it could not be run there. ArtefactError for any field outside its range.
    """

    version: int
    seeds: tuple[int, ...]
    pixels_sha256: tuple[str, ...]
    labels_sha256: str
    origin: Logits
    allowed_on_gpu: float
    own: Logits | None = None

    def __post_init__(self) -> None:
        if type(self.version) is not int or self.version < 1:
            raise fail("proof.version", self.version, "an integer from 1 on")
        if not isinstance(self.seeds, tuple) or not 1 <= len(self.seeds) <= MOST_SEEDS:
            raise fail("proof.seeds", self.seeds, f"1 to {MOST_SEEDS} seeds")
        for seed in self.seeds:
            if type(seed) is not int or not 0 <= seed < 2**32:
                raise fail("proof.seeds", seed, "integers of 32 bits")
        if not isinstance(self.pixels_sha256, tuple) or len(self.pixels_sha256) != len(self.seeds):
            raise fail("proof.pixels_sha256", self.pixels_sha256, f"{len(self.seeds)} hashes, one for each seed")
        check_finite("proof.allowed", self.allowed_on_gpu, 0, math.inf, ALLOWED)
        for digest in (*self.pixels_sha256, self.labels_sha256):
            check_sha256("proof.sha256", digest)

    @classmethod
    def from_plain(cls, got: Any) -> Passport:
        """Read the form of `dataclasses.asdict`, with lists for tuples."""
        fields = read_fields(cls, "proof.", got)
        for name in ("seeds", "pixels_sha256"):
            fields[name] = tuple_from_list(fields[name])
        fields["origin"] = Logits(**read_fields(Logits, "proof.origin.", fields["origin"]))
        if fields["own"] is not None:
            fields["own"] = Logits(**read_fields(Logits, "proof.own.", fields["own"]))
        return cls(**fields)


def sha256_of_pixels(pixels: NDArray[np.uint8]) -> str:
    """Return the sha256 of a prepared picture, uint8 RGB (H, W, 3), row by row."""
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()


def sha256_of_labels(labels: Sequence[str]) -> str:
    """Return the sha256 of labels in their order."""
    return hashlib.sha256(json.dumps(list(labels)).encode()).hexdigest()
