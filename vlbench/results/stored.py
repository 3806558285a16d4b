"""Records together with the scores stored beside them, to evaluate again without decoding."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vlbench.errors import DataError
from vlbench.evaluation.stored_scores import Floats, StoredScores
from vlbench.names import one_line
from vlbench.results.contradictions import contradictions
from vlbench.results.pairs import content_of, predictions_path, read_pair, record_paths
from vlbench.results.record import Record
from vlbench.results.scores_file import read_scores


@dataclass(frozen=True)
class StoredEvaluation:
    """An evaluation as `vlbench test` left it.

    Attributes:
        name: Name of the record.
        record: Record of what was evaluated.
        classes: Names in the order of the columns of the scores.
        predictions: Scores of every readable video.
    """

    name: str
    record: Record
    classes: tuple[str, ...]
    predictions: StoredScores

    @classmethod
    def load(cls, name: str, folder: Path) -> StoredEvaluation:
        """An evaluation by its record.

        Args:
            name: Path of a record, or the name of one below `folder`.
            folder: Results folder that records are looked up in.

        Raises:
            DataError: If there is no such record, or its scores are missing, damaged or another run's, or the record
                says what does not follow from them, or a video of it may have several labels.
        """
        path = find_record(name, folder)
        record, content = read_pair(path, content_of)
        source = predictions_path(path)
        predictions, written = read_scores(content, record, source)
        wrong = next(contradictions(record, predictions, written), None)
        if wrong is not None:
            more = f"`vlbench verify {path.parent.parent}` says more"
            raise DataError(f"{path} does not fit {source}: {one_line(wrong)}; {more}")
        if predictions.multi_label:
            raise DataError(
                f"{path} is of {record.identity.dataset}, a video of which may have several labels: it has a mean"
                " average precision, which `vlbench leaderboard` shows and `vlbench verify` recomputes, and nothing"
                " else; give a record of videos of one label each"
            )
        return cls(path.stem, record, record.details.classes, predictions)

    def correct(self) -> dict[str, bool]:
        """Video -> whether its best class is the right one; not for those that could not be read."""
        predictions = self.predictions
        hits = (predictions.best == predictions.labels).tolist()
        return dict.fromkeys(predictions.failures, False) | dict(zip(predictions.ids, hits, strict=True))

    def labels(self) -> dict[str, int]:
        """Video -> class, also of those that could not be read."""
        predictions = self.predictions
        lost = {video: label for video, (label, _) in predictions.failures.items()}
        return dict(zip(predictions.ids, predictions.labels.tolist(), strict=True)) | lost

    def rescored(self, scores: Floats) -> StoredEvaluation:
        """The same videos with other scores, such as those of other prompts.

        Args:
            scores: Scores of the readable videos, float32 `(N, C)`, for classes in the order of `classes`.
        """
        return replace(self, predictions=replace(self.predictions, scores=scores, cosines=scores))

    def restricted(self, columns: Sequence[int]) -> StoredScores:
        """The videos of some classes, scored against these classes only, by their cosines.

        The scores themselves are of no use here: where views are averaged as probabilities, these are relative to all
        classes of the evaluation.

        Args:
            columns: Positions of the classes in `classes`.
        """
        position = {label: index for index, label in enumerate(columns)}
        labels, predictions = self.labels(), self.predictions
        rows = [row for row, video in enumerate(predictions.ids) if labels[video] in position]
        ids = [predictions.ids[row] for row in rows]
        cosines = predictions.cosines[rows][:, columns]
        return StoredScores(
            ids,
            np.array([position[labels[video]] for video in ids], dtype=np.int64),
            cosines,
            cosines,
            predictions.features[rows],
            {v: (position[label], cause) for v, (label, cause) in predictions.failures.items() if label in position},
        )


def find_record(name: str, folder: Path) -> Path:
    """The file of a record.

    Args:
        name: Path of a record, or the name of one below `folder`.
        folder: Results folder that records are looked up in.

    Raises:
        DataError: If there is none or more than one.
    """
    if Path(name).is_file():
        return Path(name)
    known = {path: path.stem for path in record_paths([folder])} if folder.is_dir() else {}
    matches = [path for path, stem in known.items() if stem == name]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise DataError(f"{name} is {matches[0]} and {matches[1]}; give the path of one")
    near = difflib.get_close_matches(name, known.values(), n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"{folder} has {len(known)} records"
    raise DataError(f"no record {name!r}: {hint}; give the path of a record, or its name and --folder")
