"""Classes that are alike stand side by side."""

import numpy as np
import pytest

from vlbench.evaluation.stored_scores import StoredScores
from vlbench.results.class_order import _leaves, order_by_similarity

pytestmark = pytest.mark.quick


def stored(cosines, labels):
    cosines = np.asarray(cosines, np.float32)
    ids = [f"v{index}" for index in range(len(labels))]
    return StoredScores(ids, np.asarray(labels, np.int64), cosines, cosines, np.zeros((len(labels), 0), np.float32))


def grouped(groups, size, seed, videos=12, without=()):
    """Scores whose cosines are high within groups of classes, and the group of each class, in a random order."""
    random = np.random.default_rng(seed)
    classes = groups * size
    group = random.permutation(classes) // size
    centres = random.normal(size=(groups, 48))
    axes = centres[group] + 0.7 * random.normal(size=(classes, 48))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    labels = np.array([label for label in range(classes) if label not in without for _ in range(videos)])
    features = axes[labels] + 0.1 * random.normal(size=(len(labels), 48))
    return stored(features @ axes.T / np.linalg.norm(features, axis=1, keepdims=True), labels), group


def runs(values):
    return 1 + int((np.diff(values) != 0).sum())


@pytest.mark.parametrize("seed", range(3))
def test_groups_stay_together(seed):
    scores, group = grouped(groups=12, size=5, seed=seed)
    order = order_by_similarity(scores)
    assert sorted(order) == list(range(60))
    assert runs(group) > 40
    assert runs(group[order]) == 12


def test_a_class_without_videos_has_its_place_by_the_videos_of_others():
    scores, group = grouped(groups=6, size=4, seed=0, without=(5, 9))
    assert runs(group[order_by_similarity(scores)]) == 6


def test_the_order_does_not_depend_on_the_order_of_the_videos_nor_on_the_scale():
    scores, _ = grouped(groups=6, size=4, seed=1)
    shuffled = np.random.default_rng(2).permutation(len(scores.labels))
    other = stored(100 * scores.cosines[shuffled] + 7, scores.labels[shuffled])
    assert order_by_similarity(other).tolist() == order_by_similarity(scores).tolist()


@pytest.mark.parametrize(
    ("cosines", "labels"),
    [
        (np.zeros((0, 4)), []),
        (np.eye(4), range(4)),  # no two are more alike than others
        (np.ones((6, 4)), [0, 1, 2, 3, 3, 3]),
        (np.eye(4)[[2, 2]], [2, 2]),  # one class has videos
        (np.ones((3, 1)), [0, 0, 0]),
        (np.eye(2), [0, 1]),
    ],
)
def test_without_similarities_it_is_the_order_of_the_labels(cosines, labels):
    assert order_by_similarity(stored(cosines, list(labels))).tolist() == list(range(np.shape(cosines)[1]))


def test_groups_are_joined_by_their_mean_similarity():
    """0 and 1 are the most alike; their mean with 2 is above 3's similarity to 2, and 3 comes to the end beside 1."""
    similarity = np.array([[1, 0.9, 0.8, 0], [0.9, 1, 0, 0.35], [0.8, 0, 1, 0.3], [0, 0.35, 0.3, 1]])
    assert _leaves(similarity).tolist() == [2, 0, 1, 3]
