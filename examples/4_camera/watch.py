"""Report when the object in front of a camera changes.

python watch.py model.onnx [SOURCE]
"""

import sys

from taijitu import Classifier, Reader, WatchResult, watch


class Changes:
    """A callback that remembers the last label."""

    def __init__(self) -> None:
        self.label = ""

    def __call__(self, result: WatchResult) -> None:
        best = result.answers[0]
        if best.label != self.label and best.probability >= 0.5:
            self.label = best.label
            print(f"{best.label} {best.probability:.1%}, {result.age_ms:.0f} ms old", flush=True)


model, source = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "0"
with Classifier.from_file(model) as classifier:
    summary = watch(classifier, Reader(source), Changes())
print(summary, file=sys.stderr)
