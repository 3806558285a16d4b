"""vlbench in Python: a model by its checkpoint, the classes of videos, an evaluation, a table of records.

`vlbench` itself exports these names and imports what they need when they are asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vlbench.cli.datasets import dataset_of
from vlbench.cli.models import model_of
from vlbench.clips.datamodule import VideoDataModule
from vlbench.datasets.base import VideoDataset
from vlbench.evaluation.evaluator import Evaluation
from vlbench.inference import Candidate, Classification, Model
from vlbench.inference.model import Device
from vlbench.results.leaderboard import leaderboard_rows
from vlbench.results.row import Cell

__all__ = ["Candidate", "Classification", "Model", "evaluate", "leaderboard", "load"]


def load(
    checkpoint: str | Path | None = None,
    *,
    configs: str | Sequence[str] = (),
    record: str | Path | None = None,
    device: Device = "auto",
) -> Model:
    """A model with its weights, ready for videos.

    Args:
        checkpoint: Checkpoint of `vlbench fit`, which says how its model and its clips are configured, or an exported
            safetensors file. One that was imported or written by an older vlbench needs `configs`.
        configs: Configurations by name, such as `zero_shot.yaml`, later ones over earlier ones.
        record: Path of a record, whose test names configurations and checkpoint.
        device: Device that computes: `auto` is CUDA where torch finds it, else the CPU.

    Raises:
        ConfigError: If nothing or too much is given, or the configurations configure no model.
        CheckpointError: If the checkpoint cannot be used; says why.

    Example:
        >>> import vlbench
        >>> model = vlbench.load(configs=["zero_shot.yaml", "backbone/tiny.yaml"], device="cpu")
        >>> model.method.name, model.frames
        ('zero_shot', 8)
        >>> import numpy as np
        >>> from vlbench.synthetic.generate import write_clip
        >>> from vlbench.synthetic.render import render_clip
        >>> frames = render_clip(np.random.default_rng(0), colour="red", shape="ball", motion="l2r")
        >>> write_clip(Path("ball.mp4"), frames)
        >>> result = model.classify("ball.mp4", ["a red ball", "a green flag"])
        >>> result.best(1)[0].name
        'a red ball'
        >>> model.encode_videos(["ball.mp4"]).shape
        torch.Size([1, 128])
    """
    names = [configs] if isinstance(configs, str) else [*configs]
    return model_of(
        names, None if checkpoint is None else Path(checkpoint), None if record is None else Path(record), device
    )


def evaluate(
    model: Model,
    dataset: VideoDataset | VideoDataModule | str | Sequence[str],
    *,
    batch_size: int | None = None,
    num_workers: int = 0,
) -> list[Evaluation]:
    """Evaluates a model on the test part of a dataset, with the numbers that `vlbench test` gives; nothing is written.

    Args:
        model: Model that `load` has made.
        dataset: Dataset, or names of configurations of one such as `data/ucf101.yaml`, later ones over earlier ones;
            its clips are the model's. Or a DataModule, which says itself what a clip is.
        batch_size: Number of clips that are computed together; `None` is 1 on a CPU and 16 on a GPU. A DataModule has
            its own.
        num_workers: Processes that decode videos; 0 decodes in this one. A DataModule has its own.

    Returns:
        Metrics in per cent and predictions of each test subset, one for most datasets.

    Raises:
        ConfigError: If the method cannot score the classes of the dataset, or the configurations have no dataset.
        DataError: If lists or videos are missing.

    Example:
        >>> import vlbench
        >>> import numpy as np
        >>> from vlbench.datasets import FolderVideos
        >>> from vlbench.synthetic.generate import write_clip
        >>> from vlbench.synthetic.render import render_clip
        >>> for colour, shape in (("red", "ball"), ("green", "flag")):
        ...     folder = Path("videos/test") / f"a {colour} {shape}"
        ...     folder.mkdir(parents=True)
        ...     frames = render_clip(np.random.default_rng(0), colour=colour, shape=shape, motion="l2r")
        ...     write_clip(folder / "0.mp4", frames)
        >>> model = vlbench.load(configs=["zero_shot.yaml", "backbone/tiny.yaml"], device="cpu")
        >>> (evaluation,) = vlbench.evaluate(model, FolderVideos("videos"))
        >>> evaluation.metrics["top1"], len(evaluation.predictions.ids)
        (100.0, 2)
    """
    if not isinstance(dataset, VideoDataset | VideoDataModule):
        dataset = dataset_of([dataset] if isinstance(dataset, str) else dataset)
    return model.evaluate(dataset, batch_size=batch_size, num_workers=num_workers)


def leaderboard(
    folders: str | Path | Sequence[str | Path], *, allow_dirty: bool = False, allow_mixed: bool = False
) -> list[dict[str, Cell]]:
    """The table that `vlbench leaderboard` makes of the records below some folders, for `pandas.DataFrame`.

    Args:
        folders: Results folders, searched for records.
        allow_dirty: Whether records of code that differed from its commit are taken.
        allow_mixed: Whether records of different schemas are taken together.

    Returns:
        Column -> value for each row, the columns and the order of its CSV file; what is not known is `None`.

    Raises:
        DataError: If a folder does not exist, or a table should not rest on one of the records; says which.

    Example:
        >>> import vlbench
        >>> Path("results").mkdir()
        >>> vlbench.leaderboard("results")  # no records yet
        []
    """
    given = [folders] if isinstance(folders, str | Path) else folders
    table = leaderboard_rows([Path(folder) for folder in given], allow_dirty=allow_dirty, allow_mixed=allow_mixed)
    return [row.cells() for row in table]
