"""Pictures for training: read data sets in their usual forms, and make batches of them."""

from taijitu_training.data.batches import MemoryBatches, batches, evaluation_batches
from taijitu_training.data.dataset import DataRequest, Dataset, Source, Stream
from taijitu_training.data.load import load_dataset
from taijitu_training.data.pictures import Pictures, input_contract, input_spec, normalise
from taijitu_training.data.share import Batches, Share

__all__ = [
    "Batches",
    "DataRequest",
    "Dataset",
    "MemoryBatches",
    "Pictures",
    "Share",
    "Source",
    "Stream",
    "batches",
    "evaluation_batches",
    "input_contract",
    "input_spec",
    "load_dataset",
    "normalise",
]
