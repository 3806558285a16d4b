"""Finds datasets for the commands: by configuration and by name; imports no torch."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from inspect import signature
from pkgutil import resolve_name
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from vlbench.cli.configs import find_config, read_config
from vlbench.cli.usage import explain
from vlbench.cli.values import check_types
from vlbench.datasets import DATASETS, FolderVideos, VideoDataset
from vlbench.datasets.specs import DatasetSpec
from vlbench.errors import ConfigError

_SUFFIX = "DataModule"


def dataset_of(configs: Sequence[str]) -> VideoDataset:
    """The dataset of some configurations; only what they say of the data is read.

    Raises:
        ConfigError: If they configure no dataset.
    """
    class_path: str | None = None
    options: dict[str, Any] = {}
    for name in configs:
        data = read_config(find_config(name)).get("data") or {}
        if isinstance(data, str):
            data = {"class_path": data}
        if not _is_class(data):
            raise ConfigError(
                f"{name} sets data to {data!r}; allowed: class_path and init_args, as in data/ucf101.yaml"
            )
        if data.get("class_path", class_path) != class_path:
            class_path, options = data["class_path"], {}
        options = overlaid(options, data.get("init_args") or {})
    if class_path is None:
        raise ConfigError(f"{', '.join(configs)} configure no dataset; give one such as data/ucf101.yaml")
    cls = dataset_class(class_path)
    loading = options.get("loading")
    if isinstance(loading, Mapping) and loading.get("backend") == "rawframes":
        options = {**options, "stored": "frames"}
    # What is left out says how the DataModule makes clips of the videos.
    accepted = signature(cls).parameters
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(cls, "dataset")
    try:
        values = parser.parse_object({"dataset": {key: value for key, value in options.items() if key in accepted}})
        check_types(Namespace(data=values.dataset), {"data": cls})
        dataset = parser.instantiate(values).dataset
    except ConfigError:
        raise
    except Exception as error:
        problem = explain(str(error), parser).replace("dataset", "data", 1)
        raise ConfigError(f"{', '.join(configs)} configure no dataset: {problem}") from error
    assert isinstance(dataset, VideoDataset)
    return dataset


def _is_class(data: object) -> bool:
    return (
        isinstance(data, Mapping)
        and isinstance(data.get("class_path", ""), str)
        and isinstance(data.get("init_args") or {}, Mapping)
    )


def overlaid(options: Mapping[str, Any], later: Mapping[str, Any]) -> dict[str, Any]:
    """Options with later ones over them, group by group."""
    merged = dict(options)
    for key, value in later.items():
        earlier = merged.get(key)
        both = isinstance(earlier, Mapping) and isinstance(value, Mapping)
        merged[key] = overlaid(earlier, value) if both else value  # type: ignore[arg-type]
    return merged


def dataset_class(class_path: str) -> type[VideoDataset]:
    """The dataset of a DataModule's class; a DataModule of vlbench need not be imported for it.

    Args:
        class_path: Name of the DataModule, with or without its package.

    Raises:
        ConfigError: If there is no such DataModule, or it has no dataset.
    """
    module, _, name = class_path.rpartition(".")
    known = {f"{dataset}{_SUFFIX}": cls for dataset, cls in DATASETS.items()}
    if (not module or module.startswith("vlbench.")) and name in known:
        return known[name]
    if name == "FeatureBankDataModule":
        raise ConfigError(
            f"{name} has features and no videos; give the dataset that the bank was made of: {', '.join(known)}, or"
            " look at the bank itself by `vlbench data check --bank DIR`"
        )
    try:
        cls: type[VideoDataset] = resolve_name(class_path).dataset_class
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"no DataModule {class_path!r}; allowed: {', '.join(known)}, or package.module.Class"
        ) from error
    return cls


def variants_of(name: str) -> list[tuple[str, VideoDataset]]:
    """Label of each variant of a dataset and the dataset in it, by class name or folder (`HMDB51`, `hmdb51`).

    Raises:
        ConfigError: If there is no such dataset, or it has no facts of its own.
    """
    by_name = {key.lower(): cls for cls_name, cls in DATASETS.items() for key in (cls_name, cls.folder)}
    cls = by_name.get(name.lower())
    if cls is None:
        near = difflib.get_close_matches(name.lower(), by_name, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ConfigError(f"no dataset {name!r}; {hint}allowed: {', '.join(DATASETS)}")
    if cls is FolderVideos:
        raise ConfigError(
            "FolderVideos has the classes that its folder has; `vlbench data check --root DIR` looks at it"
        )
    datasets = [cls(variant=variant) for variant in cls.variants]
    return [(dataset.label, dataset) for dataset in datasets]


def specification(dataset: str, variant: str | None) -> DatasetSpec:
    """Specification of a dataset under one of its variants.

    Args:
        dataset: Class name or folder of the dataset, such as `HMDB51` or `hmdb51`.
        variant: Which of the dataset's class names; `None` takes the first ones.

    Raises:
        ConfigError: If there is no such dataset or variant.
    """
    variants = {label.partition("/")[2] or label: known for label, known in variants_of(dataset)}
    if variant is not None and variant not in variants:
        raise ConfigError(f"{dataset} has no variant {variant!r}; allowed: {', '.join(variants)}")
    return variants[variant or next(iter(variants))].spec
