"""Graph rewrites, one a file, in the style of onnx-ir's passes: numbered rules, exact, and they say if they changed
anything."""

from taijitu_export.passes.global_average_pool import GlobalAveragePoolPass
from taijitu_export.passes.lower_to_opset_17 import LowerToOpset17Pass
from taijitu_export.passes.strip_traces import StripTracesPass

__all__ = ["GlobalAveragePoolPass", "LowerToOpset17Pass", "StripTracesPass"]
