"""The protocol of a population: pure functions that turn device arrays into tasks."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metapers.core import task
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


SampleEpisode = Callable[[PyTree, PRNGKey, str], tuple[Task, Truth | None]]
EpisodeOf = Callable[[PyTree, Int[Array, ''], str], tuple[Task, Truth | None]]
HistoriesOf = Callable[[PyTree], Choices]


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
  sample_episode: SampleEpisode
  episode_of: EpisodeOf
  histories: HistoriesOf
  spec: Spec
  record: dict[str, str | float]
  scaling: Scaling


class Functions(NamedTuple):
  """The functions of a `Population`, of the same names; they depend on static options alone.

  Make them once for equal options (`functools.cache`): `jit` compiles for a function object, and
  what it has compiled for one population then serves all that are alike.
  """

  sample_episode: SampleEpisode
  episode_of: EpisodeOf
  histories: HistoriesOf


def fixed_key(split: str) -> PRNGKey:
  """Returns the key of the fixed episodes of a split, or of SEEN users."""
  keys = jax.random.split(jax.random.key(FIXED_EPISODES), len(SPLITS))
  return jax.random.fold_in(keys[-1], 1) if split == SEEN else keys[SPLITS.index(split)]


def histories_of(episode_of: EpisodeOf, num_users: int) -> HistoriesOf:
  """Makes `Population.histories` of the fixed episodes of the first U = num_users train users."""

  def histories(arrays):
    def history(user):
      seen, _ = episode_of(arrays, user, 'train')
      return task.concat(seen.support, seen.query)

    return jax.lax.map(history, jnp.arange(num_users), batch_size=256)

  return histories
