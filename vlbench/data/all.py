"""Every dataset, so that configurations find them by class name."""

from vlbench.data.kinetics import Kinetics400
from vlbench.data.synthetic import SyntheticActions
from vlbench.data.ucf101 import UCF101

__all__ = ["UCF101", "Kinetics400", "SyntheticActions"]
