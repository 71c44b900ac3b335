"""The verdict: what n pictures can show, when logits decide, and that NaN never passes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binom

from taijitu_export.comparison.allowances import ALLOWED_DROP_POINTS, FULL_PRECISION_ERROR, allowed_error
from taijitu_export.comparison.bounds import drop_interval, pictures_to_show, share_interval
from taijitu_export.comparison.comparison import Accuracy, accuracy, compare
from taijitu_export.comparison.parity import parity
from taijitu_export.comparison.verdict import (
    Outcome,
    Verdict,
    verdict_on_accuracy,
    verdict_on_labels,
    verdict_on_logits,
    verdict_without_promise,
)

FLOAT32 = np.float32


@pytest.mark.parametrize(
    ("count", "pictures", "low", "high"),
    [
        # Tables of exact binomial 95 % limits: Clopper and Pearson 1934, Geigy's Scientific Tables.
        (0, 10, 0.0, 0.3085),
        (1, 10, 0.0025, 0.4450),
        (5, 10, 0.1871, 0.8129),
        (10, 10, 0.6915, 1.0),
        (0, 100, 0.0, 0.0362),
        (10, 100, 0.0490, 0.1762),
    ],
)
def test_bounds_are_those_of_the_tables(count: int, pictures: int, low: float, high: float) -> None:
    found = share_interval(count, pictures)
    assert (found.low, found.high) == (pytest.approx(low, abs=6e-5), pytest.approx(high, abs=6e-5))


@pytest.mark.parametrize("pictures", [1, 7, 12, 300, 10_000, 50_000, 10_000_000])
def test_at_a_bound_the_binomial_tail_is_2_5_percent(pictures: int) -> None:
    for count in sorted({0, 1, 2, pictures // 3, pictures - 1, pictures} & set(range(pictures + 1))):
        found = share_interval(count, pictures)
        if count == 0:
            assert found.low == 0.0
        else:
            assert binom.sf(count - 1, pictures, found.low) == pytest.approx(0.025, rel=1e-8)
        if count == pictures:
            assert found.high == 1.0
        else:
            assert binom.cdf(count, pictures, found.high) == pytest.approx(0.025, rel=1e-8)


def test_the_number_of_pictures_that_would_show_it_shows_it_and_one_less_does_not() -> None:
    for allowed in (0.001, 0.005):
        enough = pictures_to_show(0, 0, 10, allowed)
        assert enough is not None
        assert drop_interval(0, 0, enough).high <= allowed < drop_interval(0, 0, enough - 1).high
        # (1 - allowed) ** n = 2.5 %, and as much again for nothing gained
        assert enough == math.ceil(math.log(0.025) / math.log1p(-allowed))
    assert pictures_to_show(5, 0, 1000, 0.005) is None, "the rate itself is at what is allowed"


def test_two_models_of_different_answers_are_told_how_many_pictures_would_show_it() -> None:
    enough = pictures_to_show(20, 20, 100, 0.005)
    assert enough is not None
    assert drop_interval(enough // 5, enough // 5, enough).high <= 0.005 + 1e-4


def judged(before: list[int], after: list[int], targets: list[int], max_drop: float = 0.5) -> Verdict:
    """Return the verdict on two lists of first answers."""
    one_hot = np.eye(10, dtype=FLOAT32)
    found = compare(one_hot[after], one_hot[before], np.array(targets))
    assert found.labelled is not None
    return verdict_on_labels(found, found.labelled, max_drop)


def changed(pictures: int, lost: int, gained: int, wrong: int = 0, max_drop: float = 0.5) -> Verdict:
    """Return the verdict for pictures of ten labels with these numbers lost, gained, and wrong in both."""
    targets = np.arange(pictures) % 10
    before, after = targets.copy(), targets.copy()
    after[:lost] = (after[:lost] + 1) % 10
    before[lost : lost + gained + wrong] = (before[lost : lost + gained + wrong] + 1) % 10
    after[lost + gained : lost + gained + wrong] = before[lost + gained : lost + gained + wrong]
    return judged(before.tolist(), after.tolist(), targets.tolist(), max_drop)


def test_a_candidate_with_0_percent_and_a_reference_with_83_is_not_fine_with_any_softmax() -> None:
    generator = np.random.default_rng(0)
    targets = np.arange(12)
    reference = generator.normal(0, 1e-4, (12, 1000)).astype(FLOAT32)
    reference[np.arange(10), targets[:10]] = 1e-3  # probabilities of all classes within 1e-6 of each other
    candidate = reference.copy()
    candidate[np.arange(12), targets] = -1e-3
    found = compare(candidate, reference, targets)
    assert found.labelled is not None
    assert found.labelled.reference.top1_percent == pytest.approx(83.33, abs=0.01)
    assert found.labelled.candidate.top1_percent == 0.0
    assert max(flip.margin for flip in found.flips) < 0.05
    assert verdict_on_labels(found, found.labelled, 0.5).outcome is Outcome.NOT_FINE


def test_of_one_label_alone_the_probabilities_are_judged_and_no_labels() -> None:
    reference = np.linspace(0.1, 0.9, 1000, dtype=FLOAT32)[:, None]
    found = compare(reference[::-1], reference, np.zeros(1000, np.int64), "probabilities")
    assert found.labelled is None, "its first answer is right by any numbers"
    assert verdict_on_logits(found, "int8", 0.1).outcome is Outcome.NOT_FINE


def test_a_few_pictures_are_enough_where_a_good_classifier_became_a_bad_one() -> None:
    labels = [0, 1, 2, 3]
    assert judged(labels, [1, 2, 3, 3], labels).outcome is Outcome.NOT_FINE
    assert judged(labels, [0, 1, 2, 0], labels).outcome is Outcome.NOT_SHOWN, "one picture is never enough"
    assert judged(labels, [1, 2, 3, 0], labels, max_drop=100).outcome is Outcome.FINE


def test_a_network_that_always_gives_the_commonest_label_is_not_fine() -> None:
    targets = [2] * 800 + [0] * 10 + [1] * 10
    sound = [0] * 139 + [2] * 661 + [0] * 10 + [1] * 10
    assert judged(sound, [2] * 820, targets).outcome is Outcome.NOT_FINE, "though 139 are gained and 20 lost"
    assert judged([2] * 820, [2] * 820, targets).outcome is Outcome.FINE, "its reference does so too"
    assert judged([2] * 9 + [0], [2] * 10, [2] * 10).outcome is Outcome.NOT_SHOWN, "one picture is never enough"


def test_a_drop_of_0_83_points_that_was_measured_is_not_called_fine() -> None:
    found = changed(10_000, lost=183, gained=100, wrong=1000)
    assert found.outcome is not Outcome.FINE
    assert "0.83 points" in found.reason
    assert changed(10_000, lost=90, gained=7, wrong=1000).outcome is Outcome.NOT_FINE


def test_what_the_shipped_checkpoint_loses_in_int8_is_shown_to_be_fine() -> None:
    assert changed(10_000, lost=102, gained=95, wrong=1300).outcome is Outcome.FINE


def test_0_flips_of_10_is_not_shown_and_says_how_many_pictures_would_show_it() -> None:
    found = changed(10, lost=0, gained=0)
    assert (found.outcome, found.pictures_to_show) == (Outcome.NOT_SHOWN, 736)
    assert "736" in found.reason
    assert found.passes(require_certain=False)
    assert not found.passes(require_certain=True)
    assert changed(736, lost=0, gained=0).outcome is Outcome.FINE
    assert changed(735, lost=0, gained=0).outcome is Outcome.NOT_SHOWN


def test_fp16_s_allowance_can_be_shown_on_the_ten_thousand_test_pictures() -> None:
    assert changed(10_000, lost=0, gained=0, max_drop=ALLOWED_DROP_POINTS["fp16"]).outcome is Outcome.FINE
    assert changed(10_000, lost=1, gained=0, max_drop=ALLOWED_DROP_POINTS["fp16"]).outcome is Outcome.FINE


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_nan_logit_is_never_fine(bad: float) -> None:
    reference = np.eye(10, dtype=FLOAT32)
    candidate = reference.copy()
    candidate[3, 4] = bad
    for targets in (np.arange(10), None):
        found = compare(candidate, reference, targets)
        assert found.not_finite == 1
        if found.labelled is not None:
            assert found.labelled.lost == 1
            assert verdict_on_labels(found, found.labelled, 100.0).outcome is Outcome.NOT_FINE
        for precision in ("fp32", "fp16", "int8"):
            assert verdict_on_logits(found, precision, 1.0).outcome is Outcome.NOT_FINE
    # and the other way round: a reference without a range
    for precision in ("fp32", "int8"):
        assert verdict_on_logits(compare(reference, candidate), precision, 1.0).outcome is Outcome.NOT_FINE
    nothing = Accuracy(0, math.nan, None)
    assert verdict_without_promise(nothing, 0.1).outcome is Outcome.NOT_JUDGED
    assert verdict_on_accuracy(nothing, 10, 10, math.nan, "its card records", 0.1, 0.1).outcome is Outcome.NOT_FINE


def test_without_labels_the_logits_error_decides_and_flips_do_not() -> None:
    reference = np.tile(np.array([[0.0, 1e-6, 10.0, 10.0 + 1e-6]], FLOAT32), (5, 1))
    candidate = reference[:, [1, 0, 3, 2]]
    found = compare(candidate, reference)
    assert len(found.flips) == 5
    assert verdict_on_logits(found, "fp32", FULL_PRECISION_ERROR).outcome is Outcome.FINE
    off = compare(reference + np.array([0, 0, 0, 0.01], FLOAT32), reference)
    assert off.flips == ()
    assert verdict_on_logits(off, "fp32", FULL_PRECISION_ERROR).outcome is Outcome.NOT_FINE


def test_a_precision_may_cost_a_multiple_of_its_own_noise_within_limits() -> None:
    assert allowed_error("fp16", 3e-4) == pytest.approx(3e-3)
    assert allowed_error("fp16", 0.0) == pytest.approx(1 / 2048), "one rounding of eleven bits"
    assert allowed_error("fp16", 1.0) == 1e-2
    assert not allowed_error("int8", math.nan) >= 0.0, "nothing passes where the noise is unknown"


@pytest.mark.parametrize(
    ("hits", "expected", "max_drop", "outcome"),
    [
        (8539, 80.0, 0.1, Outcome.FINE),
        (8539, 85.39, 0.1, Outcome.NOT_SHOWN),
        (8539, 90.0, 0.1, Outcome.NOT_FINE),
        (0, 0.0, 0.1, Outcome.NOT_JUDGED),
        (8539, 10.0, 0.1, Outcome.NOT_JUDGED),
        (8539, 80.0, 70.0, Outcome.NOT_JUDGED),
        (300, 5.0, 0.1, Outcome.NOT_FINE),
    ],
)
def test_an_accuracy_alone_is_judged_by_its_bounds(
    hits: int, expected: float, max_drop: float, outcome: Outcome
) -> None:
    found = verdict_on_accuracy(Accuracy(hits, hits / 100, None), 10_000, 10, expected, "expected", max_drop, 0.1)
    assert found.outcome is outcome


@pytest.mark.parametrize(
    ("hits", "chance", "outcome"),
    [
        (800, 800 / 820, Outcome.NOT_JUDGED),
        (820, 1.0, Outcome.NOT_JUDGED),
        (805, 800 / 820, Outcome.NOT_JUDGED),
        (820, 800 / 820, Outcome.FINE),
        (600, 800 / 820, Outcome.NOT_FINE),
        (738, 800 / 820, Outcome.NOT_SHOWN),
    ],
)
def test_an_accuracy_that_the_commonest_label_alone_reaches_is_not_fine(
    hits: int, chance: float, outcome: Outcome
) -> None:
    found = verdict_on_accuracy(Accuracy(hits, 100 * hits / 820, None), 820, 10, 90.0, "expected", 0.1, chance)
    assert found.outcome is outcome


def test_equal_logits_count_for_the_lower_index() -> None:
    flat = np.zeros((2, 6), FLOAT32)
    assert accuracy(flat, np.array([0, 5])).hits == 1


class Answers:
    """A backend that returns these logits."""

    def __init__(self, logits: Any) -> None:
        self._logits = list(logits)

    def infer(self, images: np.ndarray) -> np.ndarray:
        given, self._logits = self._logits[: len(images)], self._logits[len(images) :]
        return np.array(given, FLOAT32)


def network(coarse: bool) -> torch.nn.Module:
    """Make a network of two logits; a `coarse` one adds and subtracts a million, which float32 cannot do exactly."""

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("large", torch.tensor(1e6 if coarse else 0.0))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return (images.mean((2, 3)) + self.large) - self.large

    return Net()


def test_an_ill_conditioned_network_is_named_with_both_figures() -> None:
    images = np.random.default_rng(0).normal(size=(20, 2, 4, 4)).astype(FLOAT32)
    exact = images.astype(np.float64).mean((2, 3))
    backend: Any = Answers(exact)
    found = parity(network(coarse=True), backend, images)
    assert not found.holds
    assert found.ill_conditioned
    assert found.own_error is not None
    for figure in (found.own_error, found.comparison.max_error):
        assert f"{figure:.2g}" in found.failure
    wrong: Any = Answers(exact * 1.01)
    found = parity(network(coarse=False), wrong, images)
    assert not found.holds
    assert not found.ill_conditioned
    assert "like PyTorch" in found.failure
    right: Any = Answers(exact)
    assert parity(network(coarse=False), right, images).own_error is None


def test_a_network_whose_answers_depend_on_the_others_of_a_batch_is_not_at_parity() -> None:
    class Mixing(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean((2, 3)) - images.mean()

    class Same:
        def infer(self, images: np.ndarray) -> np.ndarray:
            return Mixing()(torch.from_numpy(images)).numpy()

    images = np.random.default_rng(0).normal(size=(20, 2, 4, 4)).astype(FLOAT32)
    backend: Any = Same()
    found = parity(Mixing(), backend, images)
    assert not found.holds
    assert not found.ill_conditioned
