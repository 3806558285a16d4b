"""Finds datasets for the commands: by configuration and by name."""

from __future__ import annotations

from collections.abc import Sequence

import yaml
from jsonargparse import ArgumentParser

import vlbench.clips.datamodules  # noqa: F401 - class names in configs are found among imported classes
from vlbench.cli.configs import find_config
from vlbench.clips.datamodule import VideoDataModule
from vlbench.datasets import DATASETS, FolderVideos, VideoDataset
from vlbench.datasets.specs import DatasetSpec
from vlbench.errors import ConfigError


def dataset_of(configs: Sequence[str]) -> VideoDataset:
    """The dataset of some configurations; only what they say of the data is read.

    Raises:
        ConfigError: if they configure no dataset.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(VideoDataModule, "data", required=True)
    values = None
    try:
        for name in configs:
            content = yaml.safe_load(find_config(name).read_text()) or {}
            if "data" in content:
                values = parser.parse_object({"data": content["data"]}, values)
        if values is None:
            raise ConfigError(f"{', '.join(configs)} configure no dataset; give one such as data/ucf101.yaml")
        datamodule = parser.instantiate(values).data
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"{', '.join(configs)} configure no dataset: {error}") from error
    assert isinstance(datamodule, VideoDataModule)
    return datamodule.dataset


def variants_of(name: str) -> list[tuple[str, DatasetSpec]]:
    """Label and specification of each variant of a dataset, by class name or folder (`HMDB51`, `hmdb51`).

    Raises:
        ConfigError: if there is no such dataset, or it has no facts of its own.
    """
    by_name = {key.lower(): cls for cls_name, cls in DATASETS.items() for key in (cls_name, cls.folder)}
    cls = by_name.get(name.lower())
    if cls is None:
        raise ConfigError(f"no dataset {name!r}; allowed: {', '.join(DATASETS)}")
    if cls is FolderVideos:
        raise ConfigError(
            "FolderVideos has the classes that its folder has; `vlbench data check --root DIR` looks at it"
        )
    datasets = [cls(variant=variant) for variant in cls.variants]
    return [(dataset.label, dataset.spec) for dataset in datasets]
