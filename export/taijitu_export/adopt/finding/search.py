"""The search: from coarse to fine, on few pictures first, and on all of them only what they cannot tell apart.

1. Every family of arithmetic with the commonest resize, on at most COARSE pictures; then every resize, then every
   filter. What is worse beyond all doubt (COARSE_LEVEL) is out; the rest of the contract was not right yet.
2. On all pictures, each remaining value of one part, the others as in the best candidate so far, which gives way only
   to one that explains the pictures better by the test; so on until none does.
3. The same of combinations: of the best value of each part, and where one candidate is left, of its nearest rivals.
4. Where one resize is left, sizes that are not usual near it: taken only if the usual one explains the pictures worse.

On a number of pictures that doubles, a candidate is dropped once it explains them worse than the best one by a paired
test; the level of the test is shared among all values and all looks at them (Bonferroni).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from taijitu_export.adopt.finding.candidate_answers import CandidateAnswers
from taijitu_export.adopt.finding.candidates import Part, Values, distinct, unusual_resizes, values_of
from taijitu_export.adopt.finding.label_order import Order, score_by_halves
from taijitu_export.adopt.finding.likelihood import ERROR_RATE, Score, probability_of_as_good, score
from taijitu_runtime.card import InputSpec
from taijitu_runtime.console import Progress

FIRST_LOOK = 16
COARSE = 64
PICTURES_PER_LABEL = 8
"""At the first look, where the labels' order is not known."""
COARSE_LEVEL = 1e-6
MOST_TURNS = 5
RIVALS = 2
SPENT_EARLIER = 0.1
"""Share of ERROR_RATE for the looks before the last one."""


@dataclasses.dataclass(frozen=True)
class Space:
    """The values of each part, the usual ones first, and the size in pixels (height, width) that the network sees."""

    size: tuple[int, int]
    values: Mapping[Part, list[Values]]

    def __len__(self) -> int:
        return int(np.prod([len(values) for values in self.values.values()]))

    @property
    def first(self) -> InputSpec:
        """The candidate to begin with."""
        return self.spec(*(values[0] for values in self.values.values()))

    def spec(self, *values: Values) -> InputSpec:
        """Return the candidate with these values."""
        return InputSpec(height=self.size[0], width=self.size[1], **{k: v for part in values for k, v in part.items()})


class Search:
    """A search among the candidates of a space.

    Args:
        space: The candidates.
        answers: What the network says under each.
        order: Which number of the network stands for each label; None where that is not known.
        bar: Where work is shown.
    """

    def __init__(self, space: Space, answers: CandidateAnswers, order: Order | None, bar: Progress) -> None:
        self._space = space
        self._answers = answers
        self._order = order
        self._progress = bar
        self._scores: dict[tuple[InputSpec, int], Score] = {}
        first = FIRST_LOOK if order is not None else max(COARSE, PICTURES_PER_LABEL * answers.labels)
        self.looks = _looks(first, len(answers))
        self.level = ERROR_RATE / sum(len(values) for values in space.values.values())

    def coarse_score(self) -> Score:
        """Return the score, on few pictures, of the arithmetic that comes nearest with the commonest resize."""
        leader = self._coarse("arithmetic", self._space.first)[0]
        return self.score(leader, self._coarse_looks()[-1])

    def families(self, count: int) -> list[InputSpec]:
        """Return the best few of these families, answered on all pictures."""
        best = self._coarse("arithmetic", self._space.first)[:count]
        return self._race(best, "colours and numbers", level=0.0)

    def run(self) -> list[InputSpec]:
        """Return the candidate that is left, or those that the pictures cannot tell apart, the best first.

        These differ from one of them in one part each: what differs in several may be as good too.
        """
        values: dict[Part, list[Values]] = {}
        leader = self._space.first
        for part in self._space.values:
            left = self._coarse(part, leader)
            values[part] = [values_of(spec, part) for spec in left]
            leader = left[0]
        for _ in range(MOST_TURNS):
            near = [spec for part in values for spec in self._varied(leader, values[part])]
            left = self._race([leader, *near], "one by one")
            if leader in left:
                combined = self._race([leader, *self._combined(leader, left, near)], "combined")
                if len(left) == 1 or leader not in combined:
                    left = combined
            if leader in left:
                break
            leader = left[0]
        return self._with_unusual(leader, left)

    def near(self, spec: InputSpec, least: int) -> list[InputSpec]:
        """Answer the candidates that differ from `spec` in one part, on at least `least` pictures, and return them."""
        near = [each for values in self._space.values.values() for each in self._varied(spec, values) if each != spec]
        for each in dict.fromkeys(near):
            for _ in self._answers.answer(each, min(least, len(self._answers))):
                pass
        return list(dict.fromkeys(near))

    def all_of(self, left: Sequence[InputSpec]) -> list[InputSpec]:
        """Return all combinations of the values in candidates."""
        values = [distinct(values_of(spec, part) for spec in left) for part in self._space.values]
        return [self._space.spec(*each) for each in itertools.product(*values)]

    def score(self, spec: InputSpec, count: int | None = None) -> Score:
        """Return the score of a candidate on the first `count` pictures; None for as many as were answered."""
        count = self._answers.answered(spec) if count is None else count
        if (spec, count) not in self._scores:
            logits, targets = self._answers.logits(spec)[:count], self._answers.targets[:count]
            found = score_by_halves(logits, targets) if self._order is None else score(logits[:, self._order], targets)
            self._scores[spec, count] = found
        return self._scores[spec, count]

    @property
    def tried(self) -> list[InputSpec]:
        """Every candidate that was looked at."""
        return list(dict.fromkeys(spec for spec, _ in self._scores))

    def _coarse(self, part: Part, spec: InputSpec) -> list[InputSpec]:
        """Return the candidates with each value of a part that are not out beyond all doubt, the best first."""
        varied = self._varied(spec, self._space.values[part])
        return self._race(varied, part, self._coarse_looks(), COARSE_LEVEL)

    def _coarse_looks(self) -> list[int]:
        return [count for count in self.looks if count <= COARSE] or self.looks[:1]

    def _varied(self, spec: InputSpec, values: Iterable[Values]) -> list[InputSpec]:
        return [dataclasses.replace(spec, **each) for each in values]

    def _combined(self, leader: InputSpec, left: list[InputSpec], near: list[InputSpec]) -> list[InputSpec]:
        """Return the best values combined; for the only candidate left, combinations of two and three RIVALS."""
        if len(left) > 1:
            best: Values = {}
            for part in self._space.values:
                values = (values_of(spec, part) for spec in left)
                best |= next((each for each in values if each != values_of(leader, part)), {})
            return [dataclasses.replace(leader, **best)]
        ranked = sorted(dict.fromkeys(near), key=lambda spec: -self.score(spec).mean)
        chosen: list[list[Values]] = []
        for part in self._space.values:
            own = values_of(leader, part)
            others = [values_of(spec, part) for spec in ranked if values_of(spec, part) != own]
            chosen.append([own, *others[:RIVALS]])
        return [self._space.spec(*each) for each in itertools.product(*chosen)]

    def _with_unusual(self, leader: InputSpec, left: list[InputSpec]) -> list[InputSpec]:
        """Return `left`; or, where it has one resize and an unusual size is better, what is as good as that size."""
        usual = self._space.values["resize"]
        if len(usual) == 1 or len(distinct(values_of(spec, "resize") for spec in left)) > 1:
            return left
        for _ in range(MOST_TURNS):
            near = self._varied(leader, unusual_resizes(leader, usual))
            found = self._race([leader, *near], "sizes")
            if leader in found:
                break
            leader, left = found[0], found
        return left

    def _level(self, count: int) -> float:
        """Return the level of the test on `count` pictures: most of what chance may spoil is spent on all of them."""
        earlier = len(self.looks) - 1
        if not earlier:
            return self.level
        return (1 - SPENT_EARLIER) * self.level if count == self.looks[-1] else SPENT_EARLIER * self.level / earlier

    def _race(
        self, specs: Iterable[InputSpec], what: str, looks: Sequence[int] = (), level: float | None = None
    ) -> list[InputSpec]:
        """Return the candidates that are about as good as the best at the last of `looks`, the best first.

        Candidates of which one is as good as another stay in their order.
        """
        left = list(dict.fromkeys(specs))
        for count in looks or self.looks:
            least = self._level(count) if level is None else level
            for index, spec in enumerate(left):
                for done in self._answers.answer(spec, count):
                    self._progress.show(index * count + done, len(left) * count, f"{what}, {count} pictures")
            scores = {spec: self.score(spec, count) for spec in left}
            left.sort(key=lambda spec: -scores[spec].mean)
            best = scores[left[0]].log_likelihoods
            left = [spec for spec in left if probability_of_as_good(scores[spec].log_likelihoods, best) >= least]
        return left


def _looks(first: int, pictures: int) -> list[int]:
    """Return numbers of pictures: doubled from the first one to all of them."""
    looks = [min(first, pictures)]
    while looks[-1] < pictures:
        looks.append(min(2 * looks[-1], pictures))
    if len(looks) > 1 and looks[-2] > 0.75 * pictures:
        del looks[-2]
    return looks
