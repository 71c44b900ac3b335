"""Classify the frames of cameras, streams and files as they arrive.

`Reader` gives frames and survives failures of the source; `watch` passes their answers to a callback:

    with Classifier.from_file("model.onnx") as classifier:
        watch(classifier, Reader("0"), lambda result: print(result.answers, result.age_ms))
"""

from taijitu_runtime.live.reader import Reader
from taijitu_runtime.live.region import Region
from taijitu_runtime.live.sources import Mode, Source, source_from_text
from taijitu_runtime.live.states import Counters, Frame, State, Timeouts
from taijitu_runtime.live.summary import Summary
from taijitu_runtime.live.watch import Result, View, Watcher, watch

__all__ = [
    "Counters",
    "Frame",
    "Mode",
    "Reader",
    "Region",
    "Result",
    "Source",
    "State",
    "Summary",
    "Timeouts",
    "View",
    "Watcher",
    "source_from_text",
    "watch",
]
