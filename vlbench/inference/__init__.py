"""A trained method on any videos: their classes and features, the same as a test of it gives."""

from vlbench.inference.classification import Candidate, Classification
from vlbench.inference.model import Model

__all__ = ["Candidate", "Classification", "Model"]
