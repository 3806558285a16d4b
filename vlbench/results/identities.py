"""Identities of the evaluations that a test makes, before it makes them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from vlbench.datasets.specs import Selection, content_digest
from vlbench.errors import ConfigError, DataError
from vlbench.evaluation.facts import TrainingFacts
from vlbench.results.options import differing
from vlbench.results.record import Identity, Record
from vlbench.results.recorded import RecordedData, RecordedMethod
from vlbench.settings import settings_digest


def identities_of_test(
    method: RecordedMethod,
    data: RecordedData,
    *,
    settings: Mapping[str, object],
    weights: str | None,
    training: TrainingFacts | None,
    protocol: str,
    seed: int,
    selection: Selection,
) -> list[Identity]:
    """One identity for each test subset.

    Args:
        method: Method that is tested.
        data: DataModule of the test.
        settings: Every option of the test that can change a number, by its name.
        weights: Digest of the trained weights; `None` if nothing was trained.
        training: Facts about the training of the weights, where they are known.
        protocol: Versioned name of the protocol.
        seed: Seed of the test, which counts where no training has one.
        selection: Which epoch of the training is tested.
    """
    behind = training.settings_behind(selection) if training else None
    backbone = method.backbone.identity
    # Where the file of the weights lies is no part of them; the settings have its digest.
    pretrained = Path(backbone.pretrained).name if backbone.pretrained else backbone.pretrained
    return [
        Identity(
            method=method.name,
            backbone=f"{backbone.name}:{pretrained}",
            weights=weights,
            dataset=data.dataset.label,
            train_dataset=training.dataset if training else None,
            train=training.subset if training else None,
            test=evaluated.subset,
            views=f"{data.clip.views.clips}x{data.clip.views.crops}",
            frames=data.frames,
            protocol=protocol,
            seed=training.seed if training else seed,
            selection=selection,
            train_list=training.list if training else None,
            test_list=evaluated.list_name,
            test_videos=content_digest([*evaluated.classes.names, *sorted(map(str, evaluated.labels.items()))]),
            settings=settings_digest(settings),
            training_settings=None if behind is None else settings_digest(behind),
            untrained=weights is None and bool(method.trained_keys()),
        )
        for evaluated in data.dataset.sets("test")
    ]


def check_replaceable(path: Path, identity: Identity, settings: Mapping[str, object], stage: str | None) -> None:
    """Refuses to replace the record of another evaluation.

    A stage of the runner replaces what a stage of that name left before the configuration changed.

    Args:
        path: File that the record of an evaluation is to be written to.
        identity: Identity of that evaluation.
        settings: Every option of that evaluation that can change a number, by its name.
        stage: Digest of the runner's stage that makes the evaluation; `None` outside the runner.

    Raises:
        ConfigError: If the record of another evaluation is there; names what differs.
        DataError: If something is there that is no record, outside the runner.
    """
    if not path.is_file():
        return
    try:
        other = Record.read(path)
    except DataError:
        if stage is not None:
            return  # the runner runs a stage again whose record is damaged
        raise
    if other.identity.digest() == identity.digest() or (stage is not None and other.details.stage is not None):
        return
    ours, theirs = identity.as_dict(), other.identity.as_dict()
    fields = [name for name in ours if ours[name] != theirs[name]]
    options = differing([other.details.settings, settings]) if "settings" in fields else ["", ""]
    there, here = (f" ({text})" if text else "" for text in options)
    raise ConfigError(
        f"{path} is the record of another evaluation{there} than this one{here}; they differ in"
        f" {', '.join(fields)}: give another --record.name or --record.folder, or delete that record"
    )
