"""Every dataset, so that configurations find them by class name."""

from vlbench.data.activitynet import ActivityNet
from vlbench.data.folder import FolderVideos
from vlbench.data.hmdb51 import HMDB51
from vlbench.data.kinetics import Kinetics400, Kinetics600
from vlbench.data.something import SomethingSomethingV2
from vlbench.data.synthetic import SyntheticActions
from vlbench.data.ucf101 import UCF101

__all__ = [
    "HMDB51",
    "UCF101",
    "ActivityNet",
    "FolderVideos",
    "Kinetics400",
    "Kinetics600",
    "SomethingSomethingV2",
    "SyntheticActions",
]
