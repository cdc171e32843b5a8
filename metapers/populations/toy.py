"""A population so easy that its answers are known: for contract tests and first experiments."""

import functools

import jax
import jax.numpy as jnp

from metapers.core import masked, population, task
from metapers.core.population import (
  FIXED_EPISODES,
  SPLITS,
  Functions,
  Population,
  Simulation,
  Spec,
)
from metapers.core.task import Candidates, Task
from metapers.core.types import Array, Float

SIGNS = (1.0, -1.0)  # of feature 0, for users of even and of odd number


def two_types(
  *,
  num_features: int = 4,
  num_candidates: int = 2,
  num_support: int = 8,
  num_query: int = 16,
  num_users: int = 64,
) -> Population:
  """Returns users half of whom like feature 0, while the others dislike it; all like feature 1.

  Utilities are ±x_0 + ½ x_1 with x ~ N(0, I) and choices are noiseless, so a pooled learner can
  only use x_1, and a single comparison nearly gives the type away.

  Args:
    num_features: D, at least 2.
    num_candidates: K.
    num_support: comparisons to adapt to.
    num_query: comparisons to be evaluated on.
    num_users: U of each split; users of even number like feature 0.

  Raises:
    ValueError: for fewer than two features.
  """
  if num_features < 2:
    raise ValueError(f'two_types needs at least 2 features, got {num_features}')
  made = functions(num_features, num_candidates, num_support, num_query, num_users)
  return Population(
    arrays=(),
    **made._asdict(),
    spec=Spec(
      features=population.vector(num_features),
      num_candidates=num_candidates,
      num_support=num_support,
      num_query=num_query,
      num_users=num_users,
      num_held_out=dict.fromkeys(SPLITS[1:], num_users),
      num_histories=num_users,
      history_length=num_support + num_query,
    ),
    scaling=population.unscaled(num_features),
    source='synthetic users of two types',
    licence=population.DRAWN,
    simulation=Simulation(
      reward_models=('likes feature 0', 'dislikes feature 0'),
      choice_probabilities=choice_probabilities,
      has_score_features=False,
    ),
  )


def utilities(features: Float[Array, '*batch D']) -> Float[Array, '*batch 2']:
  """Returns the utility of a candidate to either type."""
  return jnp.stack([sign * features[..., 0] + 0.5 * features[..., 1] for sign in SIGNS], -1)


def choice_probabilities(candidates: Candidates) -> Float[Array, '*T N K 2']:
  """Returns the probability that a user of each type chooses each candidate; ties are shared."""
  value = utilities(candidates.features)
  mask = jnp.broadcast_to(candidates.mask[..., None], value.shape)
  best = mask & (value >= masked.largest(value, mask, -2)[..., None, :])
  return best / jnp.maximum(masked.count(best, -2, keepdims=True), 1)


@functools.cache
def functions(
  num_features: int, num_candidates: int, num_support: int, num_query: int, num_users: int
) -> Functions:
  """Returns the functions of `two_types`."""

  def choices(key, user, num_comparisons):
    x = jax.random.normal(key, (num_comparisons, num_candidates, num_features), jnp.float32)
    utility = jnp.where(user % 2 == 0, *SIGNS) * x[..., 0] + 0.5 * x[..., 1]
    return task.choices(Candidates(x, jnp.ones(x.shape[:2], bool)), jnp.argmax(utility, -1))

  def episode(user, key, split):
    everything = choices(key, user, num_support + num_query)
    support, query = (
      task.take(everything, jnp.arange(start, stop))
      for start, stop in ((0, num_support), (num_support, num_support + num_query))
    )
    known = user if split == 'train' else jnp.full_like(user, num_users)
    return Task(support, query, known, task.no_context()), None

  def sample_episode(arrays, key, split):
    del arrays
    key_user, key_episode = jax.random.split(key)
    return episode(jax.random.randint(key_user, (), 0, num_users, jnp.int32), key_episode, split)

  def episode_of(arrays, user, split):
    del arrays
    key = jax.random.fold_in(jax.random.key(FIXED_EPISODES), SPLITS.index(split))
    key = jax.random.fold_in(key, user)
    return episode(jnp.asarray(user, jnp.int32), key, split)

  histories = population.histories_of(episode_of, num_users)
  return Functions(sample_episode, episode_of, histories)
