"""One DataModule a dataset; every method shares them."""

from vlbench import datasets
from vlbench.clips.datamodule import VideoDataModule


class ActivityNetDataModule(VideoDataModule):
    """ActivityNet 1.3, see `vlbench.datasets.ActivityNet`."""

    dataset_class = datasets.ActivityNet


class BreakfastDataModule(VideoDataModule):
    """Breakfast Actions, see `vlbench.datasets.Breakfast`."""

    dataset_class = datasets.Breakfast


class CharadesDataModule(VideoDataModule):
    """Charades, evaluated by mean average precision, see `vlbench.datasets.Charades`."""

    dataset_class = datasets.Charades


class Diving48DataModule(VideoDataModule):
    """Diving48, see `vlbench.datasets.Diving48`."""

    dataset_class = datasets.Diving48


class FolderVideosDataModule(VideoDataModule):
    """Your own videos in a folder, see `vlbench.datasets.FolderVideos`."""

    dataset_class = datasets.FolderVideos


class HMDB51DataModule(VideoDataModule):
    """HMDB-51, see `vlbench.datasets.HMDB51`."""

    dataset_class = datasets.HMDB51


class JesterDataModule(VideoDataModule):
    """Jester, see `vlbench.datasets.Jester`."""

    dataset_class = datasets.Jester


class Kinetics400DataModule(VideoDataModule):
    """Kinetics-400, see `vlbench.datasets.Kinetics400`."""

    dataset_class = datasets.Kinetics400


class Kinetics600DataModule(VideoDataModule):
    """Kinetics-600, see `vlbench.datasets.Kinetics600`."""

    dataset_class = datasets.Kinetics600


class Kinetics700DataModule(VideoDataModule):
    """Kinetics-700, see `vlbench.datasets.Kinetics700`."""

    dataset_class = datasets.Kinetics700


class MomentsInTimeDataModule(VideoDataModule):
    """Moments in Time, see `vlbench.datasets.MomentsInTime`."""

    dataset_class = datasets.MomentsInTime


class SomethingSomethingV2DataModule(VideoDataModule):
    """Something-Something V2, see `vlbench.datasets.SomethingSomethingV2`."""

    dataset_class = datasets.SomethingSomethingV2


class SyntheticActionsDataModule(VideoDataModule):
    """The rendered sets of moving shapes, see `vlbench.datasets.SyntheticActions`."""

    dataset_class = datasets.SyntheticActions


class UCF101DataModule(VideoDataModule):
    """UCF-101, see `vlbench.datasets.UCF101`."""

    dataset_class = datasets.UCF101
