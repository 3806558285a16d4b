"""Tests the method of a record again, on all orders of the frames of its videos."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import numpy as np
from lightning import Callback, LightningModule, Trainer
from typing_extensions import override

from vlbench.bank.datamodule import FeatureBankDataModule
from vlbench.cli.configs import resolve_arguments
from vlbench.cli.preflight import check_command_line
from vlbench.cli.quiet import silence
from vlbench.cli.trainer import VlbenchCLI, run_lightning
from vlbench.clips.options import NORMAL, ViewOrder
from vlbench.errors import ConfigError, DataError
from vlbench.evaluation.counterfactual import CounterfactualEvaluator
from vlbench.evaluation.evaluator import Evaluator
from vlbench.evaluation.stored_scores import StoredScores
from vlbench.names import quoted
from vlbench.results.options import differing
from vlbench.results.record import Identity, Record, order_of_views
from vlbench.results.stored import StoredEvaluation
from vlbench.temporary import temporary_folder

ORDERS: tuple[ViewOrder, ...] = get_args(ViewOrder)
"""Orders that an audit scores, the normal one first."""

_ALONE = (
    "--verbose=false", "--record.folder=null", "--record.half_classes=false", "--trainer.devices=1",
    "--trainer.num_nodes=1", "--trainer.strategy=auto",
)  # fmt: skip
"""Options of every audit: it writes no record, and runs in one process."""

_ROUNDING = {"16": 0.03, "32": 1e-3}
"""Largest difference of a score from the stored one, as a part of the range of the stored ones, by the bits of the
precision of the test; other processors and batches round otherwise."""


def correct_in_orders(
    stored: StoredEvaluation, path: Path, config: Sequence[str], checkpoint: Path | None
) -> dict[str, dict[str, bool]]:
    """Order of the frames -> video -> whether the method of a record is right; the normal order as the record has it.

    Args:
        stored: Record with its scores.
        path: Path of the record.
        config: Configurations of the test, in place of those that the record names.
        checkpoint: Checkpoint of the test, together with `config`.

    Raises:
        ConfigError: If an option of the command line is wrong, or the record cannot be audited.
        DataError: If what is tested now is not what the record is of; says what differs.
    """
    record = stored.record
    if order_of_views(record) != NORMAL:
        raise ConfigError(
            f"{path} was tested with data.clip.views.order {order_of_views(record)}; allowed: the record of a test with"
            f" {NORMAL}, of which an audit makes the other orders"
        )
    words = command_of(record, path, config, checkpoint)
    evaluations = _tested(words, record, path)
    _check_scores(stored, evaluations[NORMAL], path)
    correct = {order: _correct(scores, order) for order, scores in evaluations.items()}
    return {**correct, NORMAL: stored.correct()}


def command_of(record: Record, path: Path, config: Sequence[str], checkpoint: Path | None) -> list[str]:
    """The command line that tests the method of a record again.

    Args:
        record: Record of the test.
        path: Path of the record.
        config: Configurations of the test, in place of those that the record names.
        checkpoint: Checkpoint of the test, together with `config`.

    Raises:
        ConfigError: If no configurations are given and the record names no command line of a test.
    """
    identity = record.identity
    if config:
        of_record = [
            f"--record.protocol={identity.protocol}", f"--record.selection={identity.selection}",
            f"--seed_everything={identity.seed}",
        ]  # fmt: skip
        weights = [] if checkpoint is None else [f"--ckpt_path={checkpoint}"]
        words = ["test", *(word for name in config for word in ("--config", name)), *of_record, *weights]
    elif record.details.command[:1] == ("test",):
        words = list(record.details.command)
    else:
        raise ConfigError(
            f"{path} does not say which command line tested it, as a test from a program or by an older vlbench; give"
            " --config, and --ckpt_path if it had one, as in that test"
        )
    return [*words, *_ALONE]


class AuditCLI(VlbenchCLI):
    """LightningCLI of `test` that scores every video in all orders of its frames.

    Attributes:
        record: Record that is tested again.
        path: Path of the record.
        evaluator: Evaluator of all orders, once the evaluation has begun.
    """

    record: Record
    path: Path
    evaluator: CounterfactualEvaluator

    @override
    def before_test(self) -> None:
        """Has the loader and the method make all orders, and the test end where it is not the record's."""
        super().before_test()
        data, method = self.datamodule, self.model
        if isinstance(data, FeatureBankDataModule):
            raise ConfigError(
                f"{self.path} is of a bank of features, which holds the frames in one order; audit the record of a test"
                " on the videos"
            )
        data.orders = ORDERS
        of_normal = method.evaluator

        def in_orders(part: Any) -> Evaluator:
            self.evaluator = CounterfactualEvaluator(of_normal(part), ORDERS)
            return self.evaluator

        method.evaluator = in_orders
        self.trainer.callbacks.append(_SameEvaluation(self))  # type: ignore[attr-defined]


class _SameEvaluation(Callback):
    """Ends a test, before anything is decoded, that is not the one of the audited record."""

    def __init__(self, command_line: AuditCLI) -> None:
        self.command_line = command_line

    @override
    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        record, path = self.command_line.record, self.command_line.path
        writer = self.command_line.config_init["test"].record
        of_set = [identity for identity in writer.identities if identity.test == record.identity.test]
        if not of_set:
            tested = ", ".join(identity.test.key for identity in writer.identities)
            raise DataError(f"{path} is of the test subset {record.identity.test.key}, and {tested} is tested now")
        check_same(record, path, of_set[0], writer.settings)


def check_same(record: Record, path: Path, now: Identity, settings: Mapping[str, object]) -> None:
    """Refuses to audit a record by another evaluation than the one that it is of.

    Args:
        record: Record that is audited.
        path: Path of the record.
        now: Identity of the evaluation that would be made.
        settings: Options of that evaluation that can change a number, by their names.

    Raises:
        DataError: If they differ; says in what.
    """
    there, here = record.identity.as_dict(), now.as_dict()
    differ = [name for name in there if there[name] != here[name]]
    if not differ:
        return
    if "weights" in differ:
        raise DataError(
            f"{path} was tested with other weights than these: identity.weights is {there['weights']} there and"
            f" {here['weights']} here; give the checkpoint of that test, or run `vlbench test` on this one"
        )
    if "test_videos" in differ:
        raise DataError(
            f"{path} was tested on other videos or classes than the DataModule lists now: identity.test_videos is"
            f" {there['test_videos']} there and {here['test_videos']} here; give the lists of that test, or run"
            " `vlbench test` again"
        )
    then, today = differing([record.details.settings, settings]) if "settings" in differ else ("", "")
    options = f", {then or 'no such option'} there and {today or 'no such option'} here" if then or today else ""
    raise DataError(
        f"{path} is of another evaluation than this one: they differ in {', '.join(differ)}{options}; give the"
        " configurations of that test, or run `vlbench test` again"
    )


def _tested(words: Sequence[str], record: Record, path: Path) -> dict[str, StoredScores]:
    """Scores of the videos of a record in every order of their frames."""
    of_record = record, path
    results: dict[str, StoredScores] = {}

    class OneAudit(AuditCLI):
        """LightningCLI runs when it is made; what it has to know is in its class."""

        record, path = of_record

        def after_test(self) -> None:
            """Keeps the scores of the record's test subset."""
            for order, evaluations in self.evaluator.evaluations.items():
                (of_set,) = (each for each in evaluations if each.set.subset == record.identity.test)
                results[order] = of_set.predictions.stored()

    silence()
    resolved = resolve_arguments(words)
    check_command_line(resolved)
    with _as_arguments(resolved), temporary_folder() as folder:
        run_lightning("test", folder, OneAudit)
    return results


@contextmanager
def _as_arguments(words: Sequence[str]) -> Iterator[None]:
    """Context in which the process has other arguments, which Lightning reads."""
    before = sys.argv[1:]
    sys.argv[1:] = words
    try:
        yield
    finally:
        sys.argv[1:] = before


def _correct(scores: StoredScores, order: str) -> dict[str, bool]:
    rows = scores.not_finite()
    if len(rows):
        raise DataError(
            f"in the order {order} {len(rows)} of {len(scores.ids)} videos have scores that are not finite,"
            f" {quoted(scores.ids[rows[0]])} is one; audit weights of a training that did not diverge"
        )
    hits = (scores.best == scores.labels).tolist()
    return dict.fromkeys(scores.failures, False) | dict(zip(scores.ids, hits, strict=True))


def _check_scores(stored: StoredEvaluation, again: StoredScores, path: Path) -> None:
    """Refuses an audit whose normal order has other scores than the record, by more than rounding.

    Raises:
        DataError: If a video can be read in one of the two alone, or a score differs; says what.
    """
    before = stored.predictions
    odd = sorted({*before.ids} ^ {*again.ids})
    if odd:
        now = "here alone" if odd[0] in {*again.ids} else "there alone"
        raise DataError(
            f"{path} and this audit read other videos: {quoted(odd[0])} can be read {now}; mend the file, or run"
            " `vlbench test` again"
        )
    rows = {video: row for row, video in enumerate(again.ids)}
    scores = again.scores[[rows[video] for video in before.ids]]
    if not before.scores.size:
        return
    span = float(np.ptp(before.scores)) or 1.0
    distance = np.abs(scores - before.scores).max(axis=1) / span
    allowed = _ROUNDING["16" if "16" in (stored.record.details.precision or "") else "32"]
    worst = int(np.argmax(distance))
    if not distance[worst] <= allowed:
        raise DataError(
            f"{path} was tested by other code than this, or on another device: the scores of"
            f" {quoted(before.ids[worst])} are off by {distance[worst]:.2g} of their range, {allowed:g} is allowed; run"
            " `vlbench test` again"
        )
