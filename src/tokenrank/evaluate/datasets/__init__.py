"""Data sets by folder, in their real file formats."""

from .opening import DATASETS, open_dataset
from .sample import Dataset, Sample, half

__all__ = ["DATASETS", "Dataset", "Sample", "half", "open_dataset"]
