"""Find the contract of a network by labelled pictures, or say which contracts they cannot tell apart."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from taijitu_export.adopt.finding.candidate_answers import CandidateAnswers
from taijitu_export.adopt.finding.candidates import (
    FIELDS,
    arithmetic_values,
    differences,
    flags,
    interpolation_values,
    resize_values,
    words,
)
from taijitu_export.adopt.finding.label_order import LEAST_PICTURES, Order, best_order, score_by_halves, undecided
from taijitu_export.adopt.finding.likelihood import (
    ERROR_RATE,
    Score,
    probability_by_chance,
    probability_of_as_good,
    score,
)
from taijitu_export.adopt.finding.search import Search, Space
from taijitu_export.adopt.original import Original
from taijitu_export.adopt.preprocessing import Preprocessing, Resize
from taijitu_export.comparison.comparison import chance_share
from taijitu_export.fewest import fewest
from taijitu_runtime.card import InputSpec
from taijitu_runtime.console import DELAY_S, Progress
from taijitu_runtime.datasets import PictureSet, evaluation_pictures, read_dataset
from taijitu_runtime.errors import DataError, UsageError, listed
from taijitu_runtime.labels import checked_labels

MOST_PICTURES = 1000
LEAST_SEEN = 32
"""Fewer pictures say nothing."""
CANDIDATES = 3
"""Candidates that are asked about all pictures before the search goes on."""
PRICED_PICTURES = 32
"""At least so many tell what an alternative costs."""
MOST_NAMED = 8
"""Candidates that a line names."""


class UndecidedError(DataError):
    """Pictures that several candidates explain about as well, or none.

    `candidates`: those of the first kind. `percent`: top-1 accuracy of the best.
    """

    def __init__(self, message: str, candidates: tuple[InputSpec, ...] = (), percent: float = 0.0) -> None:
        super().__init__(message)
        self.candidates = candidates
        self.percent = percent


@dataclasses.dataclass(frozen=True)
class Alternative:
    """A candidate that the pictures speak against.

    `instead`: what is different, in words. `points`: of top-1 accuracy that it costs, on the first `pictures`
    pictures. `log_likelihood`: its mean there, `best` that of the candidate found.
    """

    spec: InputSpec
    instead: str
    points: float
    log_likelihood: float
    best: float
    pictures: int

    def __str__(self) -> str:
        change = f"cost {self.points:.1f}" if self.points >= 0 else f"gain {-self.points:.1f}"
        return (
            f"{self.instead} instead would {change} points (log-likelihood {self.log_likelihood:.3f}, not "
            f"{self.best:.3f}; {self.pictures} pictures)"
        )


@dataclasses.dataclass(frozen=True)
class FoundContract:
    """The contract that the pictures speak for.

    `tried`: candidates that were looked at. `reordered`: what the labels' order given before would cost, None where
    none was given or it is right.
    """

    spec: InputSpec
    labels: tuple[str, ...]
    score: Score
    pictures: str
    tried: int
    alternatives: tuple[Alternative, ...]
    reordered: str | None = None

    @property
    def preprocessing(self) -> Preprocessing:
        """All parts of the contract."""
        spec = self.spec
        return Preprocessing(
            size=(spec.height, spec.width),
            resize=Resize(spec.resize, spec.resize_size, spec.fill),
            interpolation=spec.interpolation,
            colour=spec.colour,
            scale=spec.scale,
            mean=spec.mean,
            std=spec.std,
            labels=self.labels,
            source=self.pictures,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain JSON."""
        return {
            "pictures": self.pictures,
            "tried": self.tried,
            "top1_percent": self.score.percent,
            "mean_log_likelihood": self.score.mean,
            "reordered": self.reordered,
            "alternatives": [
                {
                    "instead": each.instead,
                    "cost_points": each.points,
                    "mean_log_likelihood": each.log_likelihood,
                    "of_the_found": each.best,
                    "pictures": each.pictures,
                }
                for each in self.alternatives
            ],
        }

    def report(self) -> list[str]:
        """Return lines for a terminal."""
        lines = [
            f"found: {flags(self.spec, FIELDS)}",
            f"top-1 {self.score.percent:.1f} %, mean log-likelihood {self.score.mean:.3f}, {self.pictures}, "
            f"{self.tried} candidates tried",
        ]
        return [*lines, *([self.reordered] if self.reordered else []), *map(str, self.alternatives)]


def find_contract(original: Original, standard: onnx.ModelProto, known: Preprocessing, data: Path) -> FoundContract:
    """Find the parts of a contract that are not `known`.

    Args:
        original: The network.
        standard: Its graph, as `standard_graph` makes it.
        known: The parts that stay as they are. Labels that are among them may be in the wrong order.
        data: A few hundred pictures, in a folder of each label.

    Raises:
        UndecidedError: The pictures cannot tell some candidates apart, or none explains them.
        UsageError: A part that is known does not fit the network, or there are no labels.
        DataError: The pictures cannot be read, or are too few.
    """
    signature = original.signature
    size = known.final_size(signature)
    space = Space(
        size,
        {
            "arithmetic": arithmetic_values(known, signature, size),
            "resize": resize_values(known, signature, size),
            "interpolation": interpolation_values(known),
        },
    )
    if not all(space.values.values()):  # what is known contradicts itself; this says in which way
        known.over(Preprocessing(resize=Resize("stretch"), mean=(0.0,), std=(1.0,))).spec(signature)
        raise UsageError("got flags that no usual candidate fits, expected fewer; leave some of them to --find")
    pictures, targets = _pictures(data, known, original.classes(size))
    answers = CandidateAnswers(original, standard, pictures, targets, MOST_PICTURES)
    with Progress(None, "answers", delay_s=DELAY_S) as bar:
        search, left, order = _searched(space, answers, pictures.labels, bar, is_given=known.labels is not None)
    described = f"{len(answers)} pictures of {pictures.source_name}"
    if len(left) > 1:
        raise UndecidedError(_apart(left, search, described), tuple(search.all_of(left)), search.score(left[0]).percent)
    labels = tuple(pictures.labels[label] for label in np.argsort(order))
    reordered = None
    if known.labels is not None and labels != known.labels:
        before = score(answers.logits(left[0]), answers.targets)
        lost = search.score(left[0]).percent - before.percent
        reordered = f"labels: in another order than was given, which would cost {lost:.1f} points"
    alternatives = tuple(_alternatives(left[0], search))
    return FoundContract(left[0], labels, search.score(left[0]), described, len(search.tried), alternatives, reordered)


def _pictures(data: Path, known: Preprocessing, numbers: int) -> tuple[PictureSet, NDArray[np.int64]]:
    """Return the pictures to judge by and their targets; labels are as many as the network has numbers."""
    labels = known.labels
    if labels is None:
        labels = checked_labels(tuple(read_dataset(data).labels), str(data))
    count = max(2, numbers)
    if len(labels) != count:
        source = "labels" if known.labels is not None else f"labels in {data}"
        raise UsageError(f"got {len(labels)} {source}, expected {count}, one for each number of the network")
    pictures = evaluation_pictures(data, labels)
    if pictures.targets is None:
        raise UsageError(f"{data}: got pictures without labels, expected a folder of each label; sort them into these")
    if len(pictures) < LEAST_SEEN:
        raise DataError(f"{data}: got {len(pictures)} pictures, expected at least {LEAST_SEEN}; give a few hundred")
    return pictures, pictures.targets


def _searched(
    space: Space, answers: CandidateAnswers, labels: Sequence[str], bar: Progress, *, is_given: bool
) -> tuple[Search, list[InputSpec], Order]:
    """Return the search in the right order of labels, the candidates that it left, and that order.

    UndecidedError where nothing explains the pictures, or the number of a label is open.
    """
    as_given: Order = np.arange(answers.labels)
    searches = [Search(space, answers, as_given, bar)] if is_given else []
    if np.min(np.bincount(answers.targets, minlength=answers.labels)) >= LEAST_PICTURES:
        searches.append(Search(space, answers, None, bar))
    if not searches:
        raise UndecidedError(
            f"got a label with fewer than {LEAST_PICTURES} pictures, expected more to find the labels' order by; give "
            "--labels, or more pictures"
        )
    search = max(searches, key=lambda each: each.coarse_score().mean)
    _check_above_chance(search, answers, len(space))
    if is_given and search is searches[0]:
        left = search.run()
        order = _better_order(answers, left[0], as_given)
    else:
        best = search.families(1)[0]
        order = best_order(answers.logits(best), answers.targets)
    if order is not as_given:
        search = Search(space, answers, order, bar)
        left = search.run()
        _check_order(answers, left[0], order, labels)
    return search, left, order


def _check_above_chance(search: Search, answers: CandidateAnswers, candidates: int) -> None:
    """Raise UndecidedError where the best few candidates on all pictures answer as well as guessing."""
    chance, count = chance_share(answers.targets), len(answers)

    def is_above(hits: int, pictures: int) -> bool:
        return probability_by_chance(hits, pictures, chance) < ERROR_RATE / candidates

    def is_chance(found: Score) -> bool:
        return not is_above(int(found.hits.sum()), len(found.hits))

    if is_chance(search.coarse_score()):
        scores = [search.score(spec) for spec in search.families(CANDIDATES)]
        if all(map(is_chance, scores)):
            best = max(each.percent for each in scores)
            needed = fewest(lambda hits: is_above(hits, count), count)
            expected = "more of other labels" if needed is None else f"at least {100 * needed / count:.1f} %"
            raise UndecidedError(
                f"none of {candidates} candidates explains the pictures: got {best:.1f} % of {count} right at best, "
                f"expected {expected}, as chance has {100 * chance:.1f} %; check the labels and the network, or give "
                "more pictures, of every label"
            )


def _check_order(answers: CandidateAnswers, spec: InputSpec, order: Order, labels: Sequence[str]) -> None:
    """Raise UndecidedError, naming them, where the numbers of some labels are open."""
    found = undecided(answers.logits(spec), answers.targets, order, ERROR_RATE / len(labels))
    if found:
        named = listed((repr(labels[index]) for index in found), MOST_NAMED)
        raise UndecidedError(
            f"got pictures of {named} that fit several numbers of the network, expected one; give more of them, "
            "or --labels in the network's order"
        )


def _better_order(answers: CandidateAnswers, spec: InputSpec, given: Order) -> Order:
    """Return the given order of labels, or one that explains the pictures better if each label has enough of them."""
    logits, targets = answers.logits(spec), answers.targets
    if np.min(np.bincount(targets, minlength=answers.labels)) < LEAST_PICTURES:
        return given
    before, after = score(logits[:, given], targets), score_by_halves(logits, targets)
    if probability_of_as_good(before.log_likelihoods, after.log_likelihoods) >= ERROR_RATE:
        return given
    return best_order(logits, targets)


def _alternatives(found: InputSpec, search: Search) -> Iterator[Alternative]:
    """Return what each other value of one part of the contract costs, on as many pictures as it took to drop it."""
    for name in FIELDS:
        for spec in search.near(found, PRICED_PICTURES):
            if differences(spec, found) == (name,):
                worse = search.score(spec)
                better = search.score(found).first(len(worse.hits))
                yield Alternative(
                    spec, words(spec, name), better.percent - worse.percent, worse.mean, better.mean, len(worse.hits)
                )


def _apart(left: Sequence[InputSpec], search: Search, pictures: str) -> str:
    """Return one line that names the candidates which the pictures cannot tell apart."""
    count, best = len(search.all_of(left)), left[0]
    parts = []
    for name in FIELDS:
        values: dict[str, float] = {}
        for spec in left:
            if not (differing := differences(spec, best)) or name in differing:
                values.setdefault(flags(spec, (name,)), search.score(spec).percent)
        if len(values) > 1:
            parts.append(" or ".join(f"{flag} ({percent:.1f} %)" for flag, percent in values.items()))
    return (
        f"got {count} candidates that {pictures} cannot tell apart, expected one: {'; '.join(parts)}; give the flags "
        "that are right, or more pictures, of other shapes than square"
    )
