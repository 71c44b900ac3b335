"""Graph rewrites, one subject per file, in the style of onnx-ir's passes.

Their rules are numbered, they are exact, and they report whether they changed anything.
"""

from taijitu_export.onnx.passes.dynamic_batch import DynamicBatchPass
from taijitu_export.onnx.passes.float16 import Float16Pass
from taijitu_export.onnx.passes.fold_batch_norm import FoldBatchNormPass, FuseBatchNormPass
from taijitu_export.onnx.passes.fold_scale import FoldScalePass
from taijitu_export.onnx.passes.gelu_order import GeluOrderPass
from taijitu_export.onnx.passes.global_average_pool import GlobalAveragePoolPass
from taijitu_export.onnx.passes.lower_to_opset_17 import LowerToOpset17Pass
from taijitu_export.onnx.passes.quantise import QuantisePass
from taijitu_export.onnx.passes.raise_to_opset_19 import RaiseToOpset19Pass
from taijitu_export.onnx.passes.round_to_float16 import RoundToFloat16Pass
from taijitu_export.onnx.passes.split_concat import SplitConcatPass
from taijitu_export.onnx.passes.strip_traces import StripTracesPass
from taijitu_export.onnx.passes.write_out_gelu import WriteOutGeluPass

__all__ = [
    "DynamicBatchPass",
    "Float16Pass",
    "FoldBatchNormPass",
    "FoldScalePass",
    "FuseBatchNormPass",
    "GeluOrderPass",
    "GlobalAveragePoolPass",
    "LowerToOpset17Pass",
    "QuantisePass",
    "RaiseToOpset19Pass",
    "RoundToFloat16Pass",
    "SplitConcatPass",
    "StripTracesPass",
    "WriteOutGeluPass",
]
