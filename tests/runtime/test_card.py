"""The card: what is accepted, what is refused and how, and both of its forms."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from taijitu_runtime.card import Architecture, InputSpec, ModelCard, Precision
from taijitu_runtime.errors import ArtefactError

NORMAL: dict[str, Any] = {"mean": (0.5, 0.5, 0.5), "std": (0.2, 0.2, 0.2)}


def with_value(card: dict[str, Any], field: str, value: object) -> dict[str, Any]:
    changed = copy.deepcopy(card)
    *parents, last = field.split(".")
    place = changed
    for name in parents:
        place = place[name]
    place[last] = value
    return changed


def test_the_plain_form_comes_back_as_it_went_in(card: dict[str, Any]) -> None:
    assert ModelCard.from_dict(card).to_dict() == card


def test_fields_have_their_types(card: dict[str, Any]) -> None:
    read = ModelCard.from_dict(card)
    assert read.labels == ("red", "green", "blue")
    assert read.input == InputSpec(
        height=8, width=8, resize="shorter_side", resize_size=8, mean=(0.5, 0.4, 0.3), std=(0.25, 0.2, 0.3)
    )
    assert read.architecture == Architecture("tiny", {"num_classes": 3, "widths": [1, 2]})


def test_the_onnx_metadata_has_one_json_value_for_each_field(card: dict[str, Any]) -> None:
    metadata = ModelCard.from_dict(card).to_metadata()
    assert {key: json.loads(text) for key, text in metadata.items()} == {f"taijitu.{k}": v for k, v in card.items()}


def test_the_onnx_metadata_is_read_back_and_other_keys_are_left_alone(card: dict[str, Any]) -> None:
    card["labels"] = ["Rotkehlchen", "знак", "鳥 🐦"]
    metadata = ModelCard.from_dict(card).to_metadata()
    read = ModelCard.read_onnx_metadata({**metadata, "author": "someone", "taijitu.remark": "not JSON"})
    assert read.to_dict() == card


def test_to_dict_is_the_callers_own(card: dict[str, Any]) -> None:
    read = ModelCard.from_dict(card)
    read.to_dict()["training"]["metrics"]["top1"] = 1.0
    card["training"]["metrics"]["top1"] = 2.0
    assert read.training["metrics"]["top1"] == 0.5


def test_a_card_of_the_first_files_reads(card: dict[str, Any]) -> None:
    card["precision"] = {"name": "int8", "kept": ["head.weight"], "calibration": {}}
    assert ModelCard.from_dict(card).precision == Precision(name="int8", excluded_layers=("head.weight",))


def test_tuples_pass_for_lists(card: dict[str, Any]) -> None:
    changed = with_value(with_value(card, "labels", ("red", "green", "blue")), "architecture.options.widths", (1, 2))
    assert ModelCard.from_dict(changed).to_dict() == card


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("format_version", "1", r"format_version: got '1', expected an integer from 1 to 1"),
        ("format_version", True, r"format_version: got True, expected an integer"),
        ("architecture", "yynet", r"architecture: got 'yynet', expected a dict with name, options"),
        ("architecture.name", "", r"architecture\.name: got '', expected a model's name"),
        ("architecture.options", [], r"architecture\.options: got \[\], expected a dict"),
        ("architecture.options", {1: 2}, r"architecture\.options: got 1, expected "),
        ("architecture.options.act", print, r"architecture\.options\.act: got <built-in.*, expected plain JSON"),
        ("labels", [], r"labels: got \(\), expected at least one label"),
        ("labels", "red", r"labels: got 'red', expected at least one label"),
        ("labels", ["red"], r"labels: got \('red',\), expected two labels or more"),
        ("labels", ["red", 2], r"labels\[1\]: got 2, expected text"),
        ("labels", ["red", "green", "red"], r"labels\[2\].*red"),
        ("labels", ["red", ""], r"labels\[1\]: got '', expected text"),
        ("labels", ["red", "\x1b[2J"], r"labels\[1\]: got '\\x1b\[2J', expected text without control characters"),
        ("labels", ["red", "\ud800"], r"labels\[1\]: got .* expected text that is Unicode"),
        ("training", {"caf\ud800": 1}, r"training: got .* expected text that is Unicode as every key"),
        ("labels", ["red", "\x9b2J"], r"labels\[1\]: got '\\x9b2J', expected text without control characters"),
        ("labels", ["a\u2028b"], r"labels\[0\]: got .*, expected text without control characters"),
        ("architecture.name", "\x1b[31mred", r"architecture\.name: got '\\x1b.*, expected a model's name"),
        ("training.note", "\udcff", r"training\.note: got .* expected text that is Unicode"),
        ("training.seed", 2**64, r"training\.seed: got .* expected a whole number of 64 bits"),
        (
            "precision.excluded_layers",
            ["\x1b[2J"],
            r"precision\.excluded_layers\[0\]: got .*, expected the name of a layer",
        ),
        ("input", None, r"input: got None, expected a dict with height, width"),
        ("input.height", 0, r"input\.height: got 0, expected .* 1 to 16384"),
        ("input.width", 8.0, r"input\.width: got 8\.0, expected an integer"),
        ("input.width", True, r"input\.width: got True, expected an integer"),
        ("input.height", 16385, r"input\.height: got 16385, expected"),
        ("input.colour", "YUV", r'input\.colour: got \'YUV\', expected "RGB"'),
        ("input.resize", "fit", r'input\.resize: got \'fit\', expected "shorter_side" or "stretch"'),
        ("input.resize_size", 7, r"input\.resize_size: got 7, expected .* 8"),
        ("input.crop", "random", r'input\.crop: got \'random\', expected "centre"'),
        (
            "input.interpolation",
            "lanczos",
            r'input\.interpolation: got \'lanczos\', expected "bilinear_antialias" or "bi',
        ),
        ("input.mean", [0.5, 0.5], r"input\.mean: got \(0\.5, 0\.5\), expected 3 numbers in \[0, 1\]"),
        (
            "input.mean",
            [123.7, 116.3, 103.5],
            r"input\.mean: got .* expected 3 numbers in \[0, 1\], for pixels multiplied by",
        ),
        ("input.std", [0.2, 0.2, 0], r"input\.std: got \(0\.2, 0\.2, 0\), expected 3 numbers in \(0, 1\]"),
        ("input.std", [0.2, 0.2, "x"], r"input\.std: got .*'x'.* expected 3 numbers"),
        ("training", "much", r"training: got 'much', expected a dict"),
        ("training.metrics.top1", float("nan"), r"training\.metrics\.top1: got nan, expected plain JSON"),
        ("training.metrics.top1", {1, 2}, r"training\.metrics\.top1: got \{1, 2\}, expected plain JSON"),
        ("producer", None, r"producer: got None, expected a dict"),
        ("producer.torch", 2, r"producer\.torch: got 2, expected "),
        ("source_sha256", "abc", r"source_sha256: got 'abc', expected 64 lower-case hex digits, or an empty text"),
        ("source_sha256", "0" * 64 + "\n", r"source_sha256: got"),
        ("note", "hi", r"note: got 'hi', expected no such field \(known: format_version, "),
        ("input.dtype", "uint8", r"input\.dtype: got 'uint8', expected no such field \(known: height, "),
    ],
)
def test_a_wrong_field_is_named_with_what_was_got_and_expected(
    card: dict[str, Any], field: str, value: object, message: str
) -> None:
    with pytest.raises(ArtefactError, match=message):
        ModelCard.from_dict(with_value(card, field, value))


@pytest.mark.parametrize("field", ["format_version", "architecture", "labels", "input", "training", "source_sha256"])
def test_a_missing_field_is_named(card: dict[str, Any], field: str) -> None:
    del card[field]
    with pytest.raises(ArtefactError, match=f"{field}: got None, expected"):
        ModelCard.from_dict(card)


def test_a_missing_inner_field_is_named(card: dict[str, Any]) -> None:
    del card["input"]["mean"]
    with pytest.raises(ArtefactError, match=r"input\.mean: got None, expected"):
        ModelCard.from_dict(card)


def test_a_newer_format_asks_for_an_upgrade_before_anything_else(card: dict[str, Any]) -> None:
    newer = {**card, "format_version": 2, "normalisation": "of the future"}
    with pytest.raises(ArtefactError, match=r"got 2, expected at most 1.*pip install --upgrade"):
        ModelCard.from_dict(newer)


def test_something_else_than_a_dict_is_refused() -> None:
    with pytest.raises(ArtefactError, match="got 'card', expected a dict"):
        ModelCard.from_dict("card")  # type: ignore[arg-type]


def test_endless_nesting_is_refused(card: dict[str, Any]) -> None:
    nested: dict[str, Any] = {}
    for _ in range(100):
        nested = {"deeper": nested}
    with pytest.raises(ArtefactError, match="32"):
        ModelCard.from_dict({**card, "training": nested})


@pytest.mark.parametrize("text", ["{", "'red'", "", "[" * 100_000])
def test_metadata_that_is_not_json_is_refused(card: dict[str, Any], text: str) -> None:
    metadata = {**ModelCard.from_dict(card).to_metadata(), "taijitu.labels": text}
    with pytest.raises(ArtefactError, match=r"taijitu\.labels: got .*, expected JSON"):
        ModelCard.read_onnx_metadata(metadata)


def test_metadata_cannot_smuggle_in_numbers_that_json_lacks(card: dict[str, Any]) -> None:
    metadata = {**ModelCard.from_dict(card).to_metadata(), "taijitu.training": '{"top1": NaN}'}
    with pytest.raises(ArtefactError, match=r"training\.top1: got nan, expected plain JSON"):
        ModelCard.read_onnx_metadata(metadata)


def test_a_card_built_directly_is_checked_too() -> None:
    with pytest.raises(ArtefactError, match=r"input\.resize_size: got 4, expected .* 6"):
        InputSpec(height=8, width=6, resize="stretch", resize_size=4, **NORMAL)
    spec = InputSpec(height=8, width=6, resize="stretch", resize_size=6, **NORMAL)
    with pytest.raises(ArtefactError, match=r"architecture: got 'tiny', expected .*Architecture"):
        ModelCard(
            architecture="tiny",  # type: ignore[arg-type]
            labels=("a",),
            input=spec,
            training={},
            producer={},
            source_sha256="",
        )
