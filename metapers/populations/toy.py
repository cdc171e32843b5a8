"""A population so easy that its answers are known: for contract tests and first experiments."""

import functools

import jax
import jax.numpy as jnp

from metapers.core import population, task
from metapers.core.population import FIXED_EPISODES, SPLITS, Functions, Population, Spec
from metapers.core.task import Candidates, Choices, Task


def two_tastes(
  *,
  num_features: int = 4,
  num_candidates: int = 2,
  num_support: int = 8,
  num_query: int = 16,
  num_users: int = 64,
) -> Population:
  """Half of the users like feature 0, the others dislike it; all like feature 1.

  Utilities are 2·(±x_0 + ½ x_1) with x ~ N(0, I) and choices are noiseless, so a pooled learner
  can only use x_1 and a single comparison nearly tells the taste.

  Args:
    num_features: D, at least 2.
    num_candidates: K.
    num_support: comparisons to adapt to.
    num_query: comparisons to be judged on.
    num_users: U of each split; users of even number like feature 0.

  Raises:
    ValueError: for fewer than two features.
  """
  if num_features < 2:
    raise ValueError(f'two_tastes needs at least 2 features, got {num_features}')

  held_out: dict[str, int] = dict.fromkeys(SPLITS[1:], num_users)
  spec = Spec(num_features, num_candidates, num_support, num_query, num_users, 0, held_out)
  record: dict[str, str | float] = {'source': 'two tastes'}
  scaling = population.unscaled(num_features)
  made = functions(num_features, num_candidates, num_support, num_query, num_users)
  return Population((), *made, spec, record, scaling)


@functools.cache
def functions(
  num_features: int, num_candidates: int, num_support: int, num_query: int, num_users: int
) -> Functions:
  """Makes the functions of `two_tastes`."""

  def choices(key, user, num_comparisons):
    x = jax.random.normal(key, (num_comparisons, num_candidates, num_features))
    utility = jnp.where(user % 2 == 0, 1.0, -1.0) * x[..., 0] + 0.5 * x[..., 1]
    mask = jnp.ones(x.shape[:2], bool)
    return Choices(Candidates(x, mask), jnp.argmax(utility, -1), mask[:, 0])

  def episode(user, key, split):
    everything = choices(key, user, num_support + num_query)
    support, query = (
      task.take(everything, jnp.arange(start, stop))
      for start, stop in ((0, num_support), (num_support, num_support + num_query))
    )
    known = user if split == 'train' else jnp.full_like(user, num_users)
    return Task(support, query, known, jnp.zeros((0,))), None

  def sample_episode(arrays, key, split):
    del arrays
    key_user, key_episode = jax.random.split(key)
    return episode(jax.random.randint(key_user, (), 0, num_users), key_episode, split)

  def episode_of(arrays, user, split):
    del arrays
    key = jax.random.fold_in(jax.random.key(FIXED_EPISODES), SPLITS.index(split))
    key = jax.random.fold_in(key, user)
    return episode(jnp.asarray(user), key, split)

  histories = population.histories_of(episode_of, num_users)
  return Functions(sample_episode, episode_of, histories)
