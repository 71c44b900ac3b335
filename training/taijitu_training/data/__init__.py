"""Pictures for training: reading them in the forms that people have them, and cutting them into batches."""

from taijitu_training.data.batches import Batches, MemoryBatches, Share
from taijitu_training.data.folder import load_dataset
from taijitu_training.data.pictures import (
    Dataset,
    Pictures,
    evaluation_transform,
    input_contract,
    normalise,
    to_rgb,
)

__all__ = [
    "Batches",
    "Dataset",
    "MemoryBatches",
    "Pictures",
    "Share",
    "evaluation_transform",
    "input_contract",
    "load_dataset",
    "normalise",
    "to_rgb",
]
