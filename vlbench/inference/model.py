"""A method with its weights that classifies files, and scores them as a test does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from vlbench.clips.datamodule import VideoDataModule
from vlbench.clips.options import ClipOptions
from vlbench.clips.readers import TestViews
from vlbench.datasets.base import VideoDataset
from vlbench.datasets.specs import Stored
from vlbench.errors import ConfigError, DataError, DecodeError
from vlbench.evaluation.calibration import probabilities
from vlbench.evaluation.evaluator import Evaluation
from vlbench.inference.classification import Classification
from vlbench.inference.reading import MOST_VIDEOS, ReadBatch, Request, looked_at, read_batches, requests_of
from vlbench.inference.scoring import Scorer, checked_classes
from vlbench.methods.base import VideoTextMethod
from vlbench.ranges import FRAMES, PROCESSES, SECONDS, Range

Device = Literal["auto", "cpu", "cuda"]
"""Device of a model: `auto` is CUDA where torch finds it, else the CPU."""

_AT_ONCE = {"cpu": 1, "cuda": 16}
"""Clips that are computed together on a kind of device."""


class Model:
    """A method with its weights, and what a clip is for it; `vlbench.load` makes one.

    Videos are read and scored as a test with these clips reads and scores them, in float32, with the weights that the
    method evaluates with.

    Args:
        method: Method with its weights, which is moved to the device.
        frames: Number T of frames of a clip.
        clip: What the frames of a clip are, and how often a video is looked at.
        device: Device that the model computes on.

    Attributes:
        method: Method with its weights.
        frames: Number T of frames of a clip.
        clip: What the frames of a clip are.
        device: Device that the model computes on.

    Raises:
        ConfigError: If torch does not find the device, or the number of frames is out of its range.

    Example:
        >>> from vlbench.backbones import TinyCLIP
        >>> from vlbench.methods import ZeroShot
        >>> Model(ZeroShot(TinyCLIP()), device="cpu").classes is None  # any classes
        True
    """

    def __init__(
        self,
        method: VideoTextMethod,
        frames: int = 8,
        clip: ClipOptions = ClipOptions(),  # noqa: B008 - frozen
        device: Device = "auto",
    ) -> None:
        FRAMES.check("frames", frames)
        if device not in ("auto", "cpu", "cuda"):
            raise ConfigError(f"device is {device!r}; allowed: 'auto', 'cpu', 'cuda'")
        if device == "cuda" and not torch.cuda.is_available():
            raise ConfigError("device is cuda and torch finds no CUDA device here; allowed: cpu, or auto")
        kind = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        self.device = torch.device(kind)
        self.method = method.eval().to(self.device)
        self.frames = frames
        self.clip = clip
        self._scorer = Scorer(self.method, self.device)

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the only classes that the method knows; `None` if it scores any."""
        return self.method.fixed_classes

    def classify(
        self, video: str | Path, classes: Sequence[str] | None = None, *, keep_frames: bool = False
    ) -> Classification:
        """Scores the classes of one video.

        Args:
            video: Path of the video file.
            classes: Names of two classes or more; `None` where the method knows its only ones.
            keep_frames: Whether the result has the frames that were looked at.

        Raises:
            DecodeError: If the video cannot be read.
            ConfigError: If the method cannot score the classes.
            DataError: If its scores are not finite numbers.
        """
        (result,) = self.classify_videos([video], classes, keep_frames=keep_frames)
        if result.failure:
            raise DecodeError(video, result.failure)
        return result

    def classify_videos(
        self,
        videos: Iterable[str | Path] | str | Path,
        classes: Sequence[str] | None = None,
        *,
        window: float | None = None,
        stride: float | None = None,
        batch_size: int | None = None,
        num_workers: int = 0,
        keep_frames: bool = False,
    ) -> Iterator[Classification]:
        """Scores the classes of videos, or of windows of them, one after the other.

        A video that cannot be read has a result whose `failure` says why, and the others are read.

        Args:
            videos: Paths of video files, which are asked for as they are read, or one path.
            classes: Names of two classes or more; `None` where the method knows its only ones.
            window: Length in seconds of the windows of each video; `None` takes each video as a whole.
            stride: Seconds from the beginning of a window to that of the next one; `None` is the length of a window.
            batch_size: Number of clips that are computed together; `None` is 1 on a CPU and 16 on a GPU.
            num_workers: Processes that decode videos; 0 decodes in this one.
            keep_frames: Whether results have the frames that were looked at.

        Raises:
            ConfigError: If the method cannot score the classes, or an option is out of its range.
            DataError: If the scores of a video are not finite numbers.
        """
        if window is None and stride is not None:
            raise ConfigError(f"stride is {stride} and window is null; give the length of a window, too")
        for name, value in (("window", window), ("stride", stride)):
            SECONDS.check(name, value, "no windows")
        names, views = checked_classes(self.method, classes), self._views()
        batches = self._read(
            requests_of(_listed(videos), views, window, stride), views, batch_size, num_workers, own_ids=False
        )
        return self._classified(names, batches, keep_frames)

    def encode_videos(
        self,
        videos: Iterable[str | Path] | str | Path,
        classes: Sequence[str] | None = None,
        *,
        batch_size: int | None = None,
        num_workers: int = 0,
    ) -> Tensor:
        """Features of videos, float32 `(N, D)`: the mean of the unit features of a video's views, as a test stores it.

        Args:
            videos: Paths of N video files, one or more, or one path.
            classes: Names of classes, where the features of the method depend on them.
            batch_size: Number of clips that are computed together; `None` is 1 on a CPU and 16 on a GPU.
            num_workers: Processes that decode videos; 0 decodes in this one.

        Raises:
            DecodeError: If a video cannot be read.
            ConfigError: If the method makes more than one vector of a video, or its features need classes.
        """
        method = self.method
        if classes is None and method.features_depend_on_classes:
            raise ConfigError(
                f"the features of {method.name} depend on the classes; allowed: classes, two names or more"
            )
        names = ("a video",) if classes is None and self.classes is None else checked_classes(method, classes)
        views = self._views()
        requests = requests_of(_listed(videos), views, None, None)
        scored = self._scorer.scored(names, self._read(requests, views, batch_size, num_workers, own_ids=False))
        rows = []
        for (asked, _), part in scored:
            if part.failures:
                place = min(map(int, part.failures))
                raise DecodeError(asked[place].item.path, part.failures[str(place)][1])
            rows.append(part.features)
        features = torch.cat(rows) if rows else torch.empty(0, 0)
        if not features.shape[1]:
            raise ConfigError(
                f"{method.name} compares a video with classes by more than one vector, or there is no video; allowed:"
                " one video or more, and a method with one vector a video"
            )
        return features

    def evaluate(
        self, data: VideoDataset | VideoDataModule, *, batch_size: int | None = None, num_workers: int = 0
    ) -> list[Evaluation]:
        """Evaluates the method on the test part of a dataset, as `vlbench test` does; nothing is written.

        Args:
            data: Dataset, whose clips are the model's, or a DataModule, which says itself what a clip is.
            batch_size: Number of clips that are computed together; `None` is 1 on a CPU and 16 on a GPU.
            num_workers: Processes that decode the videos of a dataset; 0 decodes in this one.

        Returns:
            Metrics and predictions of each test subset.

        Raises:
            ConfigError: If the method cannot score the classes of the dataset.
            DataError: If lists or videos are missing.
        """
        if isinstance(data, VideoDataModule):
            module = copy(data)
            for name, value in self.method.backbone.frame_options().items():
                setattr(module, name, value)
            module.prepare_data()
            module.setup("test")
            dataset = module.dataset
            batches: Iterable[Any] = module.test_dataloader()
        else:
            if not data.holds_videos:
                raise ConfigError(f"{data.label} holds features and no videos; give its DataModule in place of it")
            data.prepare()
            data.check("test")
            dataset = data
            views = self._views(data.stored)
            read = self._read(map(Request, data.videos("test")), views, batch_size, num_workers, own_ids=True)
            batches = (batch for _, batch in read)
        self._use(dataset)
        return self._scorer.evaluated(batches)

    # How it is computed ------------------------------------------------------------------------------------------

    def _read(
        self, requests: Iterable[Request], views: TestViews, batch_size: int | None, num_workers: int, *, own_ids: bool
    ) -> Iterator[ReadBatch]:
        PROCESSES.check("num_workers", num_workers)
        Range(1, MOST_VIDEOS).check("batch_size", batch_size, "1 on a CPU and 16 on a GPU")
        at_once = batch_size or _AT_ONCE[self.device.type]
        size = max(1, at_once // (self.clip.views.clips * self.clip.views.crops))
        return read_batches(requests, views, size=size, at_once=at_once, num_workers=num_workers, own_ids=own_ids)

    def _classified(
        self, names: tuple[str, ...], batches: Iterator[ReadBatch], keep_frames: bool
    ) -> Iterator[Classification]:
        for (requests, batch), part in self._scorer.scored(names, batches):
            stored = part.stored()
            for row in stored.not_finite():
                raise DataError(
                    f"{requests[int(part.ids[row])].item.id} has scores that are not finite numbers; give weights of a"
                    " training that did not diverge"
                )
            shares = probabilities(stored, self.method.probability)
            rows = {name: row for row, name in enumerate(part.ids)}
            frames = looked_at(batch) if keep_frames else None
            for place, (item, _) in enumerate(requests):
                row = rows.get(str(place))
                if row is None:
                    cause = part.failures[str(place)][1]
                    yield Classification(item.id, names, np.empty(0, np.float32), None, item.span, cause)
                    continue
                yield Classification(
                    item.id,
                    names,
                    stored.scores[row],
                    None if shares is None else shares[row],
                    item.span,
                    frames=None if frames is None else frames[row],
                )

    def _use(self, dataset: VideoDataset) -> None:
        """Hands a dataset to the method, which must not take its classes for new ones."""
        if self.classes is not None:
            wanted = [dataset.train_classes.names, *(each.classes.names for each in dataset.sets("test"))]
            if any(names != self.classes for names in wanted):
                raise ConfigError(
                    f"{self.method.name} has no open vocabulary: it scores its {len(self.classes)} training classes and"
                    f" no others, and {dataset.label} has other classes; give the data that it was trained on"
                )
        self._scorer.use(dataset)

    def _views(self, stored: Stored = "videos") -> TestViews:
        of_backbone = self.method.backbone.frame_options()
        size = of_backbone.pop("image_size")
        if of_backbone["resize_mode"] == "squash" and self.clip.views.crops == 3:
            raise ConfigError("clip.views.crops is 3 and the backbone makes frames squares; allowed: 1 crop")
        return TestViews(
            (),
            frames=self.frames,
            sampling=self.clip.sampling,
            views=self.clip.views,
            size=size,
            resize=round(self.clip.test_short_side * size),
            **of_backbone,
            backend="rawframes" if stored == "frames" else "pyav",
        )


def _listed(videos: Iterable[str | Path] | str | Path) -> Iterable[str | Path]:
    """Paths of videos, also where a single one is given."""
    return [videos] if isinstance(videos, str | Path) else videos
