"""Cameras, streams and files, classified as they come.

`Reader` gives frames, whatever happens to the source; `watch` gives a callback their answers:

    with Classifier.from_file("model.onnx") as classifier:
        watch(classifier, Reader("0"), lambda result: print(result.answers, result.age_ms))
"""

from taijitu_runtime.live.reader import Reader
from taijitu_runtime.live.region import Region
from taijitu_runtime.live.sources import Mode, Source, source_from_text
from taijitu_runtime.live.states import Counters, Frame, Patience, State
from taijitu_runtime.live.summary import Summary
from taijitu_runtime.live.watch import Result, View, Watcher, watch

__all__ = [
    "Counters",
    "Frame",
    "Mode",
    "Patience",
    "Reader",
    "Region",
    "Result",
    "Source",
    "State",
    "Summary",
    "View",
    "Watcher",
    "source_from_text",
    "watch",
]
