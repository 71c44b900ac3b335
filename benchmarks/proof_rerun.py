"""Prove artefacts again, under several conditions or with another release of ONNX Runtime.

python -m benchmarks.proof_rerun CONDITION FILE...

Prints a JSON list, one object for each proof. benchmarks.proof runs it in environments that have ONNX Runtime and the
runtime's packages only.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from taijitu_runtime.backends import OrtBackend
from taijitu_runtime.classifier import Classifier
from taijitu_runtime.errors import ArtefactError
from taijitu_runtime.proof.prove import Proof, proof_of

CONDITIONS: dict[str, dict[str, Any]] = {
    "1 thread": {"threads": 1},
    "2 threads": {"threads": 2},
    "Nish as its nodes": {"native": False},
}


@dataclasses.dataclass(frozen=True)
class Rerun:
    """The proof of one artefact under one condition. `origin`, `own`: differences as shares of the logit range."""

    artefact: str
    condition: str
    proven: bool
    origin: float
    own: float | None
    text: str

    @classmethod
    def of(cls, artefact: str, condition: str, found: Proof) -> Rerun:
        """Make it from the result of `prove`; without compared logits, the differences are NaN and None."""
        far = [difference.largest for difference in found.differences] or [float("nan")]
        return cls(artefact, condition, found.proven, far[0], far[1] if len(far) > 1 else None, str(found))

    @property
    def precision(self) -> str:
        """The precision of the artefact, with which its name ends."""
        return self.artefact.rpartition("-")[2]


def main() -> int:
    """Print the proofs of the files, under one condition."""
    condition, *names = sys.argv[1:]
    found = rerun_here(map(Path, names), {condition: {}})
    print(json.dumps([dataclasses.asdict(rerun) for rerun in found]))
    return 0


def rerun_here(paths: Iterable[Path], conditions: dict[str, dict[str, Any]]) -> Iterator[Rerun]:
    """Prove each file again in this process."""
    for path in paths:
        for condition, options in conditions.items():
            try:
                with Classifier(OrtBackend(path, **options)) as classifier:
                    found = proof_of(classifier)
            except ArtefactError as error:
                found = Proof(outcome="failed", faults=(str(error),))
            yield Rerun.of(path.stem, condition, found)


if __name__ == "__main__":
    raise SystemExit(main())
