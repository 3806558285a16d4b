"""A bank as two tables, for pandas, polars and databases."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from vlbench.bank.bank import FeatureBank
from vlbench.bank.facts import Kind
from vlbench.errors import ConfigError
from vlbench.files import replacing
from vlbench.names import is_text, quoted

_VIDEOS = 256
"""Videos whose features are written at once."""


def export_parquet(bank: FeatureBank, folder: Path) -> list[Path]:
    """Writes `videos.parquet`, the lists of a bank, and `features.parquet`, its frame features, a row each.

    Args:
        bank: Bank that is exported.
        folder: Folder that the files are written to; files of these names are replaced.

    Returns:
        Paths of the files.

    Raises:
        ConfigError: If pyarrow is missing.
        WriteError: If the disk refuses; each file is whole or what it was.
    """
    try:
        import pyarrow
        from pyarrow.parquet import ParquetWriter
    except ImportError as error:
        raise ConfigError(
            f"format is parquet, which needs pyarrow ({error}): pip install 'vlbench[parquet]', or read the files of"
            " the bank with safetensors and numpy, as docs/bank.md shows"
        ) from error
    dimensions = bank.shape()[2]
    metadata = {"vlbench": json.dumps({"bank": bank.facts.digest(), "facts": asdict(bank.facts)})}
    schemas = {
        "videos": [
            ("id", pyarrow.string()), ("part", pyarrow.string()), ("split", pyarrow.int32()),
            ("label", pyarrow.int32()), ("class", pyarrow.string()), ("failure", pyarrow.string()),
        ],
        "features": [
            ("id", pyarrow.string()), ("kind", pyarrow.string()), ("view", pyarrow.int32()), ("frame", pyarrow.int32()),
            ("feature", pyarrow.list_(pyarrow.float32(), dimensions)),
        ],
    }  # fmt: skip
    blocks = {"videos": iter([video_columns(bank)]), "features": feature_columns(bank)}
    paths = []
    for name, fields in schemas.items():
        schema = pyarrow.schema(fields, metadata=metadata)
        paths.append(folder / f"{name}.parquet")
        with replacing(paths[-1]) as temporary, ParquetWriter(temporary, schema) as writer:
            for columns in blocks[name]:
                arrays = [
                    pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(values.reshape(-1)), dimensions)
                    if field == "feature"
                    else pyarrow.array(values, kind)
                    for (field, kind), values in zip(fields, columns.values(), strict=True)
                ]
                writer.write_table(pyarrow.Table.from_arrays(arrays, schema=schema))
    return paths


def video_columns(bank: FeatureBank) -> dict[str, list[Any]]:
    """A row for each video of each list of a bank, column by column.

    The columns are `id`, the name of the video; `part` and `split` of the list; `label` in the whole dataset and its
    `class`; `failure`, why the video could not be read, `None` where it could.
    """
    names = bank.facts.spec.class_names
    columns: dict[str, list[Any]] = {
        name: [] for name in ("id", "part", "split", "label", "class", "failure")
    }  # fmt: skip
    for key, videos in bank.facts.lists.items():
        part, _, split = key.partition("/")
        for video, label in videos:
            failure = bank.failures.get(video)
            row = (_text(video), part, int(split), label, names[label], failure and _text(failure))
            for column, value in zip(columns.values(), row, strict=True):
                column.append(value)
    return columns


def feature_columns(bank: FeatureBank) -> Iterator[dict[str, Any]]:
    """A row for each frame feature of the readable videos of a bank, some videos at a time, column by column.

    The columns are `id`, the name of the video; `kind` of the feature, `views` or `augmented`; `view`, the number of
    the view or the augmented pass, and `frame`, that of the frame feature in it, both counted from 0; `feature`,
    float32 `(rows, D)`: the numbers of a float16 bank are numbers of float32 as well, and more programs read these.
    """
    kinds: tuple[Kind, ...] = ("views", "augmented") if bank.facts.augmented else ("views",)
    for kind in kinds:
        videos = [video for video in bank.facts.ids(kind) if video not in bank.failures]
        for first in range(0, len(videos), _VIDEOS):
            block = videos[first : first + _VIDEOS]
            features = bank.features(block, kind).astype(np.float32)
            count, views, frames, dimensions = features.shape
            rows = count * views * frames
            yield {
                "id": np.repeat(np.array([_text(video) for video in block], object), views * frames),
                "kind": np.full(rows, kind, object),
                "view": np.tile(np.repeat(np.arange(views, dtype=np.int32), frames), count),
                "frame": np.tile(np.arange(frames, dtype=np.int32), count * views),
                "feature": features.reshape(rows, dimensions),
            }


def _text(name: str) -> str:
    """A name as UTF-8 holds it: one of other bytes as JSON."""
    return name if is_text(name) else quoted(name)
