"""Writes the record of a test run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import torch
from lightning import Callback, LightningModule, Trainer
from typing_extensions import override

from vlbench.datasets.specs import Selection
from vlbench.errors import ConfigError, DataError
from vlbench.evaluation.calibration import calibrations
from vlbench.evaluation.evaluator import Evaluation
from vlbench.evaluation.facts import TrainingFacts
from vlbench.evaluation.kept import Keep, Kept, kept_names
from vlbench.evaluation.measures import Calibration, Cost
from vlbench.evaluation.metrics import bootstrap_interval, half_class_metrics
from vlbench.evaluation.operations import count_test
from vlbench.evaluation.stored_scores import check_half_classes, digest_of_labels
from vlbench.files import check_name, check_writable
from vlbench.names import quoted
from vlbench.ranges import Range
from vlbench.results.details import Details
from vlbench.results.environment import environment
from vlbench.results.epochs import begin_epochs, check_epochs, kept_scores, write_epoch
from vlbench.results.identities import check_replaceable, identities_of_test
from vlbench.results.kept_file import remove_stale, write_kept
from vlbench.results.kept_runs import epochs_beside
from vlbench.results.overlap import Overlap, train_test_overlap
from vlbench.results.pairs import write_pair
from vlbench.results.record import Identity, Record, record_name
from vlbench.results.recorded import RecordedData, RecordedMethod, recorded
from vlbench.results.run_settings import run_settings, with_views
from vlbench.results.scores_file import write_scores
from vlbench.results.trained import facts_of_training
from vlbench.settings import Side


class RecordWriter(Callback):
    """One JSON record for every `vlbench test`, with the videos' scores beside it, and what a checkpoint of `vlbench
    fit` says of its training.

    Args:
        folder: Results folder; the record goes to `<folder>/records`, the scores to `<folder>/predictions`. `None`
            writes nothing.
        name: File name of the record without suffix; `None` makes one from the record's identity. A record of another
            evaluation under this name is not replaced, unless both are of the runner.
        stage: Digest of the runner's stage that the record belongs to.
        protocol: Versioned name of the protocol that the run belongs to.
        selection: Epoch of the training that the tested checkpoint is of.
        half_classes: Whether to evaluate on ten random halves of the classes too, as MoTE's zero-shot protocol does.
        bootstrap: Number of resampled test sets for the 95 % interval of top-1; 0 leaves the interval out.
        keep: Scores that are kept for `vlbench multiverse`, with commas between several: `views`, those of each view;
            `templates`, those with other templates of the class names; `epochs`, those of the test videos after each
            epoch of a training, which needs the selection `best_on_test` and a validation at the end of an epoch.
        keep_prompts: Sets of templates by name, or templates, that `keep: [templates]` means; null means every named
            set and each template of the method's own.

    Attributes:
        settings: Every option of the current test that can change a number, by its name.
        identities: Identities of the evaluations that the current test makes, one for each test subset.

    Raises:
        ConfigError: If the number of resampled test sets is negative, the name is not a file's, or something else than
            scores is to be kept.
    """

    def __init__(
        self,
        folder: str | None = "results",
        name: str | None = None,
        stage: str | None = None,
        protocol: str = "custom",
        selection: Selection = "last",
        half_classes: bool = False,
        bootstrap: int = 1000,
        keep: Sequence[Kept] | str = (),
        keep_prompts: Sequence[str] | None = None,
    ) -> None:
        Range(0, 10_000).check("bootstrap", bootstrap)
        if name is not None:
            check_name("record.name", name)
        self.folder = Path(folder) if folder else None
        self.name = name
        self.stage = stage
        self.protocol = protocol
        self.selection = selection
        self.half_classes = half_classes
        self.bootstrap = bootstrap
        self.keep = kept_names(keep)
        self.keep_prompts = None if keep_prompts is None else tuple(keep_prompts)
        self._data: RecordedData | None = None
        self._seed = 0
        self._config_digest: str | None = None
        self._command: tuple[str, ...] = ()
        self._started = 0.0
        self._validated: tuple[int, float] | None = None
        self._kept_epochs: dict[str, str] | None = None
        self._run: dict[Side, dict[str, object]] = {}
        self.settings: dict[str, object] = {}
        self.identities: list[Identity] = []
        self._training_facts: TrainingFacts | None = None
        self._costs: list[Cost] = []
        self._overlap = Overlap(None, "nothing was trained")

    def use(self, data: RecordedData, seed: int, config_digest: str | None = None, command: Sequence[str] = ()) -> None:
        """Hands over what records and checkpoints say of the run beside the method.

        Args:
            data: DataModule of the run.
            seed: Seed of the run.
            config_digest: Digest of the configuration of the run.
            command: Words of the command line of the run, after `vlbench`.
        """
        self._data = data
        self._seed = seed
        self._config_digest = config_digest
        self._command = tuple(command)

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            method = recorded(pl_module)
            method.describe_training = partial(self._training, trainer, method)
            self._validated, self._kept_epochs = None, None
            if "epochs" in self.keep:
                check_epochs(trainer, self.folder, on_test=self._used().dataset.validate_on_test)
            # A test before may have asked for more.
            method.keep = self._keep() if "epochs" in self.keep else None
            # Now: callbacks change their attributes while they work.
            self._run = {side: run_settings(trainer, self._used(), side) for side in ("training", "validation")}

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if "epochs" in self.keep and self.folder is not None:
            self._kept_epochs = begin_epochs(recorded(pl_module), self._used().epochs_done(trainer))

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        dataset, evaluations = self._used().dataset, recorded(pl_module).evaluations
        if evaluations and dataset.heldout and not dataset.validate_on_test:
            self._validated = (trainer.global_step, evaluations[0].metrics["top1"])
        if evaluations and self._kept_epochs is not None and self.folder is not None and trainer.state.fn == "fit":
            epoch = self._used().epochs_done(trainer) + 1
            self._kept_epochs |= write_epoch(recorded(pl_module), epoch, self.folder, trainer)

    def _training(self, trainer: Trainer, method: RecordedMethod) -> TrainingFacts:
        return facts_of_training(
            trainer, method, self._used(), seed=self._seed, settings=self._run, validated=self._validated,
            kept_epochs=self._kept_epochs,
        )  # fmt: skip

    def _used(self) -> RecordedData:
        if self._data is None:
            raise ConfigError("RecordWriter knows no data; call RecordWriter.use(datamodule, seed) first")
        return self._data

    @override
    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data, method = self._used(), recorded(pl_module)
        self.settings = {**method.settings("test"), **run_settings(trainer, data, "test")}
        self._training_facts = method.provenance
        if trainer.ckpt_path is None and method.describe_training is not None and trainer.global_step:
            self._training_facts = method.describe_training()  # trained by this very trainer
        trained = trainer.ckpt_path is not None or self._training_facts is not None
        self._overlap = train_test_overlap(data.dataset, self._training_facts, trained=trained)
        self.identities = identities_of_test(
            method,
            data,
            settings=self.settings,
            weights=method.trained_digest() if trained else None,
            training=self._training_facts,
            protocol=self.protocol,
            seed=self._seed,
            selection=self.selection,
        )
        self._check(data, method)
        if self.folder is not None:
            _check_whole(trainer)
        method.keep = self._keep() if self.keep else None
        self._costs = []
        self._started = time.monotonic()
        if pl_module.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(pl_module.device)

    def _check(self, data: RecordedData, method: RecordedMethod) -> None:
        """Refuses, before anything is evaluated, what would be refused when the record is written."""
        sets = data.dataset.sets("test")
        if any(evaluated.multi_label for evaluated in sets) and (self.half_classes or self.keep):
            option = "half_classes is true" if self.half_classes else f"keep is {', '.join(self.keep)}"
            raise ConfigError(
                f"record.{option}, and a video of {data.dataset.label} may have several labels, of which that makes"
                " nothing; leave the option out"
            )
        for evaluated in sets if self.half_classes else ():
            of_videos = [truth for truth in evaluated.labels.values() if isinstance(truth, int)]
            check_half_classes(of_videos, len(evaluated.classes.names))
        if self.folder is None:
            return
        if self.name is None:
            check_name("the name of the method", method.name)
        for below in ("predictions", "records"):
            check_writable(self.folder / below, "record.folder")
        for identity in self.identities:
            path = self._path(identity)
            for written in (path, self.folder / "predictions" / f"{path.stem}.safetensors"):
                if written.is_dir():
                    raise ConfigError(f"{written} is a folder, and the name of a file that the test writes; remove it")
            check_replaceable(path, identity, self.settings, self.stage)

    @override
    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Counts operations while the method computes with the weights that it evaluates with."""
        data, method = self._used(), recorded(pl_module)
        if self.folder is None or not trainer.is_global_zero or trainer.sanity_checking:
            return
        if not data.dataset.holds_videos:
            self._costs = [Cost(reason="the test is of features of a bank") for _ in self.identities]
            return
        began = time.monotonic()
        lists = [evaluated.classes.names for evaluated in data.dataset.sets("test")]
        self._costs = count_test(method, data.frames, lists)
        self._started += time.monotonic() - began  # no part of the test

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Rank zero writes; every rank holds the gathered predictions.

        Raises:
            DataError: If a score is not a finite number; nothing is written then.
        """
        if self.folder is None or not trainer.is_global_zero or trainer.sanity_checking:
            return
        method = recorded(pl_module)
        seconds = round(time.monotonic() - self._started, 3)
        _check_finite(method)
        measured = calibrations(
            [(each.set.subset, each.predictions.stored(), each.probability) for each in method.evaluations]
        )
        tested = zip(self.identities, method.evaluations, measured, self._costs, strict=True)
        for identity, evaluation, calibration, cost in tested:
            record = self._record(trainer, method, evaluation, identity, seconds, calibration, cost)
            kept = kept_scores(evaluation, identity.weights)
            if kept is not None:
                digest = write_kept(kept, self._path(identity))
                record = replace(record, details=replace(record.details, kept=digest))
            write = partial(write_scores, evaluation.predictions.stored(), record)
            path = write_pair(record, write, self.folder, self._path(identity).stem)
            remove_stale(path, record.details.kept)
            print(f"record: {path}")  # noqa: T201 - tells the user where it went

    def _keep(self) -> Keep:
        return Keep("views" in self.keep, "templates" in self.keep, self.keep_prompts)

    def _path(self, identity: Identity) -> Path:
        """Where the record of an evaluation goes."""
        assert self.folder is not None
        name = self.name or record_name(identity)
        if self.name is not None and len(self.identities) > 1:
            name = f"{name}-{identity.test.key}"
        return self.folder / "records" / f"{name}.json"

    def _record(
        self,
        trainer: Trainer,
        method: RecordedMethod,
        evaluation: Evaluation,
        identity: Identity,
        seconds: float,
        calibration: Calibration,
        cost: Cost,
    ) -> Record:
        data, training = self._used(), self._training_facts
        of_test = method.deviations("test", with_views(self.settings), training, data.dataset.label)
        evaluated, predictions = evaluation.set, evaluation.predictions
        metrics = {**evaluation.metrics, **bootstrap_interval(predictions, self.bootstrap)}
        if self.half_classes:
            metrics |= half_class_metrics(predictions)
        return Record(
            identity=identity,
            metrics=metrics,
            expected=len(evaluated.labels),
            evaluated=len(predictions.ids),
            failures={name: cause for name, (_, cause) in predictions.failures.items()},
            details=Details(
                stage=self.stage,
                classes=evaluated.classes.names,
                test_digest=digest_of_labels(evaluated.labels),
                features_depend_on_classes=method.features_depend_on_classes,
                deviations={**((training.deviations if training else None) or {}), **of_test},
                views=asdict(data.clip.views),
                sampling=data.clip.sampling,
                settings=self.settings,
                training_settings=(training.settings_behind(self.selection) if training else None) or {},
                # Published values are of all classes.
                published_as=() if identity.untrained or data.dataset.class_list else method.published_as,
                # The settings of the training once: as those that the weights depend on.
                training=replace(training, settings=None, validation=None, kept_epochs=None) if training else None,
                epochs=epochs_beside(self._path(identity), training.kept_epochs, identity.test) if training else {},
                trainable_params=sum(p.numel() for p in method.parameters() if p.requires_grad),
                total_params=sum(p.numel() for p in method.parameters()),
                backbone_digest=method.backbone.identity.digest,
                config_digest=self._config_digest,
                command=self._command,
                seconds=seconds,
                videos_per_second=round(len(data.dataset.videos("test")) / max(seconds, 1e-3), 3),
                processes=trainer.world_size,
                bootstrap=self.bootstrap,
                train_test_overlap=self._overlap.videos,
                train_test_check=self._overlap.check,
                precision=str(trainer.precision),
                calibration=calibration,
                cost=cost,
                **environment(method.device),
            ),
        )


def _check_whole(trainer: Trainer) -> None:
    given = trainer.test_dataloaders
    loaders = given if isinstance(given, list) else [given]
    for loader, batches in zip(loaders, trainer.num_test_batches, strict=False):  # of no loop yet: no numbers
        if batches < len(loader):
            option = "fast_dev_run" if trainer.fast_dev_run else "limit_test_batches"  # type: ignore[attr-defined]
            raise ConfigError(
                f"trainer.{option} takes {batches} of {len(loader)} batches of the test, and a record of a part of the"
                " videos is refused; leave the option out, or set record.folder to null"
            )


def _check_finite(method: RecordedMethod) -> None:
    for evaluation in method.evaluations:
        stored = evaluation.predictions.stored()
        rows = stored.not_finite()
        if len(rows):
            raise DataError(
                f"{method.name} gives {len(rows)} of {len(stored.ids)} videos scores that are not finite,"
                f" {quoted(stored.ids[rows[0]])} is one; nothing was recorded: test weights of a training that did not"
                " diverge, or with trainer.precision 32-true"
            )
