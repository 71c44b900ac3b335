"""Test damaged model cards.

python -m tools.fuzz_cards CHECKPOINT... [--inputs 20000] [--seed 1]

A card is either refused with an ArtefactError, or usable: as JSON, in a terminal, and read again from its own output.
Exit code 1 if one is neither.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter
from pathlib import Path

import orjson

from taijitu_runtime.card import ModelCard
from taijitu_runtime.errors import TaijituError
from taijitu_runtime.fields import is_one_line
from taijitu_training import checkpoint
from tools.fuzz_pictures import NUMBERS

VALUES = (
    "null", "true", "[]", "{}", '""', '"\\ud800"', '"\\u001b[2J"', '"\\u009b2J"', '"a/b"', '"\\u2028"', "NaN", "1e999",
    "-1", "0.5", '[""]', '["a", "a"]', "[[[[]]]]", "99999999999999999999999",
)  # fmt: skip


def main() -> int:
    """Print how many cards were accepted and refused; 1 if one was neither."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("--inputs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    cards = [checkpoint.load(path).card().to_metadata() for path in options.checkpoints]
    outcomes: Counter[str] = Counter()
    failed = []
    for index in range(options.inputs):
        draw = random.Random(f"{options.seed} {index}")
        outcome = outcome_of(damaged_card(draw.choice(cards), draw))
        outcomes[outcome.partition(":")[0]] += 1
        if outcome.startswith("!"):
            failed.append(f"input {index}: {outcome}")
    for outcome, count in sorted(outcomes.items()):
        print(f"{count:7}  {outcome}")
    print(f"failed: {len(failed)}")
    print("\n".join(failed[:20]))
    return 1 if failed else 0


def damaged_card(card: dict[str, str], draw: random.Random) -> dict[str, str]:
    """Replace one value of the metadata at any depth, or change letters of its text."""
    changed = dict(card)
    key = draw.choice(sorted(changed))
    if draw.random() < 0.7:
        changed[key] = _with_value(json.loads(changed[key]), draw)
    else:
        text = list(changed[key])
        for _ in range(draw.choice((1, 2, 8))):
            text[draw.randrange(len(text))] = chr(draw.choice((draw.randrange(128), draw.randrange(0x110000))))
        changed[key] = "".join(text)
    return changed


def _with_value(content: object, draw: random.Random) -> str:
    """Return the content as JSON, with one part of it replaced."""
    if isinstance(content, dict) and content and draw.random() < 0.8:
        key = draw.choice(sorted(content))
        texts = {
            name: _with_value(value, draw) if name == key else json.dumps(value) for name, value in content.items()
        }
        return "{" + ", ".join(f"{json.dumps(name)}: {text}" for name, text in texts.items()) + "}"
    if isinstance(content, list) and content and draw.random() < 0.8:
        place = draw.randrange(len(content))
        items = [_with_value(item, draw) if at == place else json.dumps(item) for at, item in enumerate(content)]
        return f"[{', '.join(items)}]"
    return draw.choice((*VALUES, str(draw.choice(NUMBERS))))


def outcome_of(metadata: dict[str, str]) -> str:
    """Return "refused", "taken", or "!" and the fault."""
    try:
        card = ModelCard.read_onnx_metadata(metadata)
    except TaijituError as error:
        return "refused" if is_one_line(str(error)) else f"!the error is not one line: {error}"
    except Exception as error:
        return f"!{type(error).__name__}: {error}"
    try:
        orjson.dumps(card.to_dict())
    except TypeError as error:
        return f"!not JSON: {error}"
    if not all(map(is_one_line, (card.architecture.name, *card.labels))):
        return "!a name or a label that a terminal would act on"
    return "taken" if ModelCard.read_onnx_metadata(card.to_metadata()) == card else "!read again it differs"


if __name__ == "__main__":
    raise SystemExit(main())
