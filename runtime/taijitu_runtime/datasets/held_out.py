"""The pictures that were held out of training, in a form that can be recognised later.

A picture is held out by its own content: its sha256 and the seed give a number in [0, 1), its rank, and the pictures of
a label with ranks below the label's cut are held out. The card keeps the cuts, which are set to hold out the requested
share. So each picture stays on its side: adding, removing, renaming files or packing them into a tar changes nothing
for the others, a new picture below the cut was not trained on either, and copies of a picture are on one side. A list
of names, or a hash of the list, would fail with the first renamed file; one cut for all labels would leave small labels
without any picture.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.datasets.fingerprints import UNREADABLE
from taijitu_runtime.datasets.label_statistics import counts_in_words
from taijitu_runtime.errors import DataError
from taijitu_runtime.fields import check_text, fail, read_fields

SAMPLE = 256
"""Fingerprints of training pictures that a card keeps."""
_DIGITS = 12  # of a fingerprint: a folder of a million other pictures matches one by chance once in a million times


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """A `share` of each label's pictures, drawn with `seed`; `cuts`: by label, the upper limit of their ranks."""

    share: float
    seed: int
    cuts: dict[str, float]

    def __str__(self) -> str:
        return f"share of {self.share:g} that training held out"

    @classmethod
    def draw(
        cls, prints: Sequence[str], targets: NDArray[np.int64], labels: Sequence[str], share: float, seed: int
    ) -> HeldOut:
        """Hold out `share` of each label's pictures, at least one.

        Args:
            prints: The pictures' fingerprints.
            targets: int64 (N,), indices of `labels`.
            labels: The labels.
            share: In (0, 1).
            seed: The seed of the draw.

        Raises:
            DataError: No picture of a label would be left to train on.
        """
        ranks = np.array([_rank(fingerprint, seed) for fingerprint in prints])
        ranks_by_label = {label: ranks[targets == target] for target, label in enumerate(labels)}
        cuts = {label: _cut(its, share) for label, its in ranks_by_label.items()}
        if few := {label: len(np.unique(its)) for label, its in ranks_by_label.items() if cuts[label] is None}:
            raise DataError(
                f"got too few different pictures to hold {share:g} of each label's out and train on the others "
                f"({counts_in_words(few)}); add some, remove these labels, or hold out less"
            )
        return cls(share, seed, {label: cut for label, cut in cuts.items() if cut is not None})

    def mask(self, prints: Sequence[str], targets: NDArray[np.int64], labels: Sequence[str]) -> NDArray[np.bool_]:
        """Return which pictures were held out, bool (N,): all with a label that the training did not have."""
        cuts = np.array([self.cuts.get(label, 1.0) for label in labels])
        ranks = np.array([_rank(fingerprint, self.seed) for fingerprint in prints])
        below: NDArray[np.bool_] = ranks < cuts[targets]
        return below


@dataclasses.dataclass(frozen=True)
class TrainedOn:
    """A sample of the pictures that a network was trained on, kept in its card to recognise them.

    `sample` has the beginnings of the 256 smallest fingerprints, or of all. Fingerprints are uniformly distributed, so
    the share of the sample found among other pictures estimates the share of the training pictures among them: if that
    is a tenth, the probability of finding none is 2e-12. `other`: the data's label of pictures that show none of the
    network's labels, which it was trained not to be sure of. `before`: the same sample of the pictures that the weights
    were trained on which the training started from.
    """

    sample: frozenset[str]
    held_out: HeldOut | None = None
    other: str | None = None
    before: frozenset[str] = frozenset()

    @classmethod
    def of(cls, prints: Sequence[str], held_out: HeldOut | None = None, other: str | None = None) -> TrainedOn:
        """Keep a sample of the fingerprints of the pictures to train on, except of files that cannot be read."""
        known = sorted(set(prints) - {UNREADABLE})[:SAMPLE]
        return cls(frozenset(fingerprint[:_DIGITS] for fingerprint in known), held_out, other)

    @classmethod
    def from_card(cls, training: dict[str, Any]) -> TrainedOn | None:
        """Read a card's `training`; return None where it has no sample. Raises ArtefactError for another form."""
        sample, held_out, other = (training.get(key) for key in ("train_sample", "held_out", "other"))
        start = training.get("started_from")
        before = start.get("train_sample") if isinstance(start, dict) else None
        if sample is None and before is None:
            return None
        sample, before = ("" if text is None else text for text in (sample, before))  # shards give no sample
        for name, text in (("train_sample", sample), ("started_from.train_sample", before)):
            if not isinstance(text, str):
                raise fail(f"training.{name}", text, "beginnings of sha256 sums, in one text")
        if other is not None:
            check_text("training.other", other, "a label of the data")
        held = None if held_out is None else _held_out(held_out)
        return cls(frozenset(sample.split()), held, other, frozenset(before.split()))

    def to_card(self) -> dict[str, Any]:
        """Return the entries for a card's `training`, plain JSON."""
        held_out = {} if self.held_out is None else {"held_out": dataclasses.asdict(self.held_out)}
        other = {} if self.other is None else {"other": self.other}
        return {"train_sample": " ".join(sorted(self.sample)), **held_out, **other}

    def found(self, prints: Sequence[str]) -> float:
        """Return the share of the training pictures that is among these fingerprints, in [0, 1]."""
        return _share(self.sample, prints)

    @property
    def whole(self) -> frozenset[str]:
        """The sample of all pictures that the weights were trained on, before they were given to this training too."""
        return frozenset(sorted(self.sample | self.before)[:SAMPLE])

    def found_of_all(self, prints: Sequence[str]) -> float:
        """Return the share of `whole` that is among these fingerprints, in [0, 1]."""
        return _share(self.whole, prints)

    def found_of_before(self, prints: Sequence[str]) -> float:
        """Return the share of `before` that is among these fingerprints, in [0, 1]."""
        return _share(self.before, prints)


def _share(sample: frozenset[str], prints: Sequence[str]) -> float:
    return len(sample & {fingerprint[:_DIGITS] for fingerprint in prints}) / max(1, len(sample))


def _held_out(got: object) -> HeldOut:
    fields = read_fields(HeldOut, "training.held_out.", got)
    cuts = fields["cuts"]
    if not isinstance(cuts, dict):
        raise fail("training.held_out.cuts", cuts, "a number for each label")
    for name, value in {"share": fields["share"], "seed": fields["seed"], **cuts}.items():
        if type(value) not in (int, float):
            raise fail(f"training.held_out.{name}", value, "a number")
    return HeldOut(**fields)


def _rank(fingerprint: str, seed: int) -> float:
    """Return a number for the seed, uniform in [0, 1), of 48 bits, which JSON and a float keep exactly."""
    return int.from_bytes(hashlib.sha256(f"{seed} {fingerprint}".encode()).digest()[:6], "big") / 2**48


def _cut(ranks: NDArray[np.float64], share: float) -> float | None:
    """Return the middle between the last rank held out and the next; copies of a picture have the same rank.

    None if no rank would be left.
    """
    ordered = np.sort(ranks).tolist()
    count = max(1, round(share * len(ordered)))
    for low, high in itertools.islice(itertools.pairwise(ordered), count - 1, None):
        if low < high:
            return float((low + high) / 2)
    return None
