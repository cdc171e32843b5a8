"""Two kinds of users with one feature: the generator of neural-process Bradley-Terry models.

Reward of a candidate with feature y in (0, 1), for a user of type z:

    r_0(y) = y below ½, 2 y above        r_1(y) = y below ½, 1 - y above

The types agree on half of all pairs, and a comparison they disagree on tells the type for sure. So
the best accuracy after k comparisons is 1 - ½ · 2^-(k+1) on pairs drawn anew.

Reference:
  Kobalczyk et al. 2024, arXiv:2412.13998; kasia-kobalczyk/few-shot-steerable-alignment,
  data/gen_synthetic_data.py.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metapers.core import masked, population, task
from metapers.core.population import (
  FIXED_EPISODES,
  SPLITS,
  Functions,
  Population,
  Scaling,
  Simulation,
  Spec,
)
from metapers.core.task import Candidates, Task
from metapers.core.types import Array, Float, Int, PRNGKey
from metapers.populations import reward_episodes

NUM_TYPES = 2
NUM_PUBLISHED = 20_000
PUBLISHED_SHARES = (0.8, 0.1, 0.1)  # of SPLITS
HISTORIES_OF_STREAM = 1000  # of an endless stream, for `prepare`
# Powers of two: scaling a fresh y and back rounds nothing, so that rewards are the same to the bit.
CENTRE, SCALE = 0.5, 0.25


class Pairs(NamedTuple):
  """Pairs of a split, y: [P, 2], and what each type chose of them, choice: [P, Z] in {0, 1}."""

  y: Float[Array, 'P 2']
  choice: Int[Array, 'P Z']


def rewards(y: Float[Array, '*batch']) -> Float[Array, '*batch 2']:
  """Returns r_z(y) of both types, in (0, 2)."""
  low = y < 0.5
  return jnp.stack([jnp.where(low, y, 2 * y), jnp.where(low, y, 1 - y)], -1)


def published_pairs() -> dict[str, Pairs]:
  """Returns the published pairs, drawn as by their script: 16,039 / 2,025 / 1,936 of the splits."""
  rng = np.random.RandomState(0)
  y = rng.rand(NUM_PUBLISHED, 2)
  choices = []
  for high in (2 * y, 1 - y):
    first, second = np.where(y < 0.5, y, high).astype(np.float32).T
    choice = (second > first).astype(np.int32)
    choice[second == first] = rng.randint(0, 2, np.sum(second == first))
    choices.append(choice)
  split = rng.choice(len(SPLITS), NUM_PUBLISHED, p=PUBLISHED_SHARES)
  y, choice = y.astype(np.float32), np.stack(choices, -1)
  return {
    name: Pairs(jnp.asarray(y[split == index]), jnp.asarray(choice[split == index]))
    for index, name in enumerate(SPLITS)
  }


def fresh_pairs(key: PRNGKey, num_pairs: int) -> Pairs:
  """Returns new pairs, y ~ U(0, 1); the first of two equal rewards is chosen (2⁻²² of pairs)."""
  y = jax.random.uniform(key, (num_pairs, 2), jnp.float32)
  return Pairs(y, jnp.argmax(rewards(y), 1).astype(jnp.int32))


def check_options(pairs: str, sizes: Sequence[int], **counts: int) -> None:
  """Refuses what no episode can be drawn from.

  Args:
    pairs: as in `np_btl`.
    sizes: how many pairs each split holds; none where they are drawn anew.
    **counts: options of `np_btl`.

  Raises:
    ValueError: naming the option, what was given and what would do.
  """
  if pairs not in ('fresh', 'published'):
    raise ValueError(f"pairs must be 'fresh' or 'published', got {pairs!r}")
  for name, count in counts.items():
    least = 0 if name == 'num_users' else 1
    if count < least:
      raise ValueError(f'{name} must be at least {least}, got {count}')
  wanted = counts['num_support'] + counts['num_query']
  if sizes and wanted > min(sizes):
    raise ValueError(
      f'num_support + num_query = {wanted} distinct pairs asked for, of {min(sizes)} published '
      "ones of a split; ask for fewer, or for pairs='fresh'"
    )


def episode(pairs: Pairs, user: Int[Array, ''], num_support: int, known: Int[Array, '']) -> Task:
  """Returns a user's choices on some pairs, the first `num_support` of them as the support.

  Args:
    pairs: of one episode.
    user: number whose parity is the type.
    num_support: static.
    known: the user's row among the known ones.
  """
  features = (pairs.y[..., None] - CENTRE) / SCALE  # [N, K, 1]
  mask = jnp.ones(pairs.y.shape, bool)
  everything = task.choices(Candidates(features, mask), pairs.choice[:, user % NUM_TYPES])
  order = jnp.arange(len(mask))
  support, query = (
    task.take(everything, part) for part in (order[:num_support], order[num_support:])
  )
  return Task(support, query, known, task.no_context())


def np_btl(
  *,
  pairs: str = 'fresh',
  num_support: int = 10,
  num_query: int = 20,
  num_users: int = 0,
  num_held_out: int = 1000,
  seed: int = 0,
) -> Population:
  """Returns the population of the paper's synthetic experiment; users of even number are of type 0.

  The pairs of an episode are distinct: none of the query was adapted to.

  Args:
    pairs: 'fresh' draws every pair anew; 'published' draws an episode of a split from that split's
      part of the 20,000 pairs that the paper's script writes.
    num_support: comparisons to adapt to; 10 at most in the paper.
    num_query: comparisons to be evaluated on.
    num_users: U known train users, each of whose episodes has pairs of its own; 0 for a stream of
      users without end.
    num_held_out: users of each of the validation and test splits.
    seed: of the fixed episodes.

  Returns:
    Population without `Truth`; its simulation gives the choice probabilities of both types.

  Raises:
    ValueError: naming the option, what was given and what would do.
  """
  arrays = published_pairs() if pairs == 'published' else {}
  check_options(
    pairs,
    [len(part.y) for part in arrays.values()],
    num_support=num_support,
    num_query=num_query,
    num_users=num_users,
    num_held_out=num_held_out,
  )
  made = functions(num_support, num_query, num_users, seed)
  return Population(
    arrays=arrays,
    **made._asdict(),
    spec=Spec(
      features=population.vector(1),
      num_candidates=2,
      num_support=num_support,
      num_query=num_query,
      num_users=num_users,
      num_held_out=dict.fromkeys(SPLITS[1:], num_held_out),
      num_histories=num_users or HISTORIES_OF_STREAM,
      history_length=num_support + num_query,
    ),
    scaling=Scaling(np.full(1, CENTRE, np.float32), np.full(1, SCALE, np.float32)),
    source=f'NP-BTL generator (synthetic), {pairs} pairs',
    licence=population.DRAWN,
    record={'pairs': pairs, 'seed': seed},
    simulation=Simulation(
      reward_models=('type 0', 'type 1'), choice_probabilities=choice_probabilities
    ),
  )


@functools.cache
def functions(num_support: int, num_query: int, num_users: int, seed: int) -> Functions:
  """Returns the functions of `np_btl`; published pairs are what its arrays hold."""

  def draw(arrays, user, key, split):
    num_pairs = num_support + num_query
    if arrays:
      chosen = reward_episodes.draw_distinct(key, len(arrays[split].y), num_pairs)
      drawn = task.take(arrays[split], chosen)
    else:
      drawn = fresh_pairs(key, num_pairs)
    is_known = split == 'train' and num_users > 0
    known = user if is_known else jnp.full_like(user, num_users)
    return episode(drawn, user, num_support, known), None

  def sample_episode(arrays, key, split):
    key_user, key_pairs = jax.random.split(key)
    user = jax.random.randint(key_user, (), 0, num_users or NUM_TYPES, jnp.int32)
    return draw(arrays, user, key_pairs, split)

  def episode_of(arrays, user, split):
    key = jax.random.fold_in(jax.random.key(FIXED_EPISODES), seed)
    key = jax.random.fold_in(jax.random.fold_in(key, SPLITS.index(split)), user)
    return draw(arrays, jnp.asarray(user, jnp.int32), key, split)

  histories = population.histories_of(episode_of, num_users or HISTORIES_OF_STREAM)
  return Functions(sample_episode, episode_of, histories)


def choice_probabilities(candidates: Candidates) -> Float[Array, '*T N K Z']:
  """Returns the probability that a user of each type chooses each candidate; ties are shared."""
  y = candidates.features[..., 0] * SCALE + CENTRE
  value = jnp.where(candidates.mask[..., None], rewards(y), -jnp.inf)
  best = value >= jnp.max(value, -2, keepdims=True)
  return best / jnp.maximum(masked.count(best, -2, keepdims=True), 1)
