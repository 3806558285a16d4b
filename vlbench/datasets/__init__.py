"""Facts and lists of every dataset; imports neither torch nor Lightning."""

from vlbench.datasets.activitynet import ActivityNet
from vlbench.datasets.base import VideoDataset
from vlbench.datasets.breakfast import Breakfast
from vlbench.datasets.charades import Charades
from vlbench.datasets.diving48 import Diving48
from vlbench.datasets.folder import FolderVideos
from vlbench.datasets.hmdb51 import HMDB51
from vlbench.datasets.jester import Jester
from vlbench.datasets.kinetics import Kinetics400, Kinetics600, Kinetics700
from vlbench.datasets.moments import MomentsInTime
from vlbench.datasets.something import SomethingSomethingV2
from vlbench.datasets.synthetic import SyntheticActions
from vlbench.datasets.ucf101 import UCF101

__all__ = [
    "DATASETS",
    "HMDB51",
    "UCF101",
    "ActivityNet",
    "Breakfast",
    "Charades",
    "Diving48",
    "FolderVideos",
    "Jester",
    "Kinetics400",
    "Kinetics600",
    "Kinetics700",
    "MomentsInTime",
    "SomethingSomethingV2",
    "SyntheticActions",
    "VideoDataset",
]

DATASETS: dict[str, type[VideoDataset]] = {
    cls.__name__: cls
    for cls in (
        UCF101,
        HMDB51,
        Kinetics400,
        Kinetics600,
        Kinetics700,
        SomethingSomethingV2,
        ActivityNet,
        MomentsInTime,
        Diving48,
        Jester,
        Breakfast,
        Charades,
        FolderVideos,
        SyntheticActions,
    )
}
"""Datasets by the names of their classes."""
