"""Pictures for training: reading them in the forms that people have them, and cutting them into batches."""

from taijitu_training.data.batches import Batches, MemoryBatches, Share, batches, evaluation_batches
from taijitu_training.data.dataset import Dataset, Source, Stream
from taijitu_training.data.load import load_dataset
from taijitu_training.data.pictures import Pictures, evaluation_transform, input_contract, normalise, to_rgb

__all__ = [
    "Batches",
    "Dataset",
    "MemoryBatches",
    "Pictures",
    "Share",
    "Source",
    "Stream",
    "batches",
    "evaluation_batches",
    "evaluation_transform",
    "input_contract",
    "load_dataset",
    "normalise",
    "to_rgb",
]
