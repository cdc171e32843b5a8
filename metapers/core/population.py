"""The protocol of a population: pure functions that turn device arrays into tasks."""

from typing import NamedTuple

import numpy as np

from metapers.core.task import Choices, Task, Truth
from metapers.core.types import Array, Callable, Float, Int, PRNGKey, PyTree

SPLITS = ('train', 'validation', 'test')
SEEN = 'seen'  # known users of a finite pool, judged on what training never showed
FIXED_EPISODES = 0xE415  # seed of `episode_of`; no run is likely to have it


class Spec(NamedTuple):
  """Static sizes that learners and judges are built from.

  num_features: D. num_candidates: K. num_support, num_query: N of either part of an episode.
  num_users: U, known users of the train split; 0 for an endless stream.
  num_context: C. num_held_out: distinct users of each split that can be judged: 'validation',
    'test' and, where there is a finite pool, SEEN.
  """

  num_features: int
  num_candidates: int
  num_support: int
  num_query: int
  num_users: int
  num_context: int
  num_held_out: dict[str, int]


class Scaling(NamedTuple):
  """How raw features become what a learner sees: (raw - mean) / scale; [D] each."""

  mean: Float[np.ndarray, 'D']
  scale: Float[np.ndarray, 'D']


def unscaled(num_features: int) -> Scaling:
  """Returns the scaling of features that are shown as they are."""
  return Scaling(np.zeros(num_features, np.float32), np.ones(num_features, np.float32))


class Population(NamedTuple):
  """Users as data.

  arrays: what lives on the device; pass it to jit as an ARGUMENT, never close over it (a closed
    over array becomes a constant of the program).
  sample_episode: `(arrays, key, split) -> (Task, Truth | None)`; pure and vmappable; `split` is
    static and one of SPLITS. Draws a user of that split and an episode of theirs.
  episode_of: `(arrays, user, split) -> (Task, Truth | None)`: the fixed episode of user number
    `user` of that split, or of SEEN; the same arguments give the same bits, on any device.
  histories: `(arrays) -> Choices [U, N, ...]` of the known users, for `MetaLearner.prepare`.
  spec: the static sizes.
  record: what every result must say of this population: source, conventions, noise.
  scaling: what was done to raw features, for whoever brings features of their own.
  """

  arrays: PyTree
  sample_episode: Callable[[PyTree, PRNGKey, str], tuple[Task, Truth | None]]
  episode_of: Callable[[PyTree, Int[Array, ''], str], tuple[Task, Truth | None]]
  histories: Callable[[PyTree], Choices]
  spec: Spec
  record: dict[str, str | float]
  scaling: Scaling
