"""How much simulated users disagree with one another.

A user prefers a over b where w·(z_a - z_b) > 0, without noise; one who is indifferent disagrees
half of the time.

Reference:
  Dong et al. 2025, "When Personalization Meets Reality", reports for each data set the share of
  comparisons on which users disagree; `contested` is that share for the users at hand.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metapers.core.population import Responses
from metapers.core.task import Task, Truth
from metapers.core.types import Array, Float, Int, PRNGKey
from metapers.evaluation import metrics
from metapers.evaluation.bootstrap import Draws, nan_if_none
from metapers.populations import choice_rules

NUM_CONTRASTS = 2000


class Contrasts(NamedTuple):
  """Q comparisons of two responses.

  values: [Q, B], z_a - z_b. prompts: [Q] ids. weight: [Q], how often each counts.
  """

  values: Float[np.ndarray, 'Q B']
  prompts: Int[np.ndarray, 'Q']
  weight: Float[np.ndarray, 'Q']


def random_contrasts(
  key: PRNGKey,
  responses: Responses,
  prompts: Int[np.ndarray, 'G'],
  *,
  num_contrasts: int = NUM_CONTRASTS,
) -> Contrasts:
  """Returns random pairs of responses to some prompts, whatever the pair rule of a population.

  Args:
    key: PRNG key.
    responses: to the prompts, among others.
    prompts: [G] ids to draw from, such as `evaluated.draws.ids`.
    num_contrasts: Q; fewer come back where a prompt drawn has fewer than two responses.

  Raises:
    ValueError: for prompts without responses.
  """
  order = np.argsort(responses.prompts)
  known = np.asarray(responses.prompts)[order]
  row = np.searchsorted(known, prompts).clip(max=known.size - 1)
  missing = np.asarray(prompts)[known[row] != prompts]
  if missing.size:
    raise ValueError(
      f'{missing.size} of {len(prompts)} prompts, such as {missing[0]}, have no responses here; '
      'give the responses of the split that users are evaluated on'
    )
  values, drawn, is_pair = jax.device_get(
    _draw(key, responses.rewards, responses.mask, jnp.asarray(order[row]), num_contrasts)
  )
  return Contrasts(
    values[is_pair],
    np.asarray(responses.prompts)[drawn[is_pair]],
    np.ones(is_pair.sum(), np.float32),
  )


@functools.partial(jax.jit, static_argnums=4)
def _draw(key, rewards, mask, rows, num_contrasts):
  key_prompts, key_pairs = jax.random.split(key)
  drawn = rows[jax.random.randint(key_prompts, (num_contrasts,), 0, rows.size, jnp.int32)]

  def contrast(key, row):
    slate, real = rewards[row], mask[row]
    shown, is_pair = choice_rules.draw_shown(
      key, slate, slate[:, 0], real, pair_rule='random', num_candidates=2
    )
    return slate[shown[0]] - slate[shown[1]], is_pair

  values, is_pair = jax.vmap(contrast)(jax.random.split(key_pairs, num_contrasts), drawn)
  return values, drawn, is_pair


def query_contrasts(tasks: Task, truth: Truth, *, num_contrasts: int = NUM_CONTRASTS) -> Contrasts:
  """Returns the first two candidates of query comparisons, evenly spread over users and turns.

  Args:
    tasks: of T users.
    truth: of the same.
    num_contrasts: Q; fewer come back where fewer count.
  """
  query = metrics.counted(tasks.query)
  shown = np.asarray(truth.query_rewards[:, :, :2])
  values = (shown[:, :, 0] - shown[:, :, 1]).reshape(-1, shown.shape[-1])
  there = np.flatnonzero(query.mask)
  size = min(num_contrasts, there.size)
  chosen = there[np.linspace(0, there.size - 1, size).round().astype(int)]
  prompts, weight = (np.asarray(x).ravel()[chosen] for x in (truth.query_prompts, query.weight))
  return Contrasts(values[chosen], prompts, weight)


@jax.jit
def preferences(weights: Float[Array, 'T B'], values: Float[Array, 'Q B']) -> Float[Array, 'T Q']:
  """Returns what users prefer: 1 the first response, -1 the second, 0 neither."""
  return jnp.sign(weights @ values.T)


def rate(
  draws: Draws, weights: Float[Array, 'T B'], contrasts: Contrasts
) -> Float[np.ndarray, 'J']:
  """Returns how often two different users disagree on a comparison, with resamples of both.

  mean over comparisons of (1 - Σ_{t≠u} s_t s_u / (T (T - 1))) / 2, with s the `preferences`.

  Args:
    draws: of users and prompts; the prompts of `contrasts` are among them.
    weights: [T, B].
    contrasts: the comparisons.
  """
  signs = np.asarray(preferences(weights, jnp.asarray(contrasts.values)))  # [T, Q]
  counts = draws.users
  agreed = (counts @ signs) ** 2 - counts**2 @ signs**2
  # Two draws of one user are no pair: they would always agree.
  couples = counts.sum(-1, keepdims=True) ** 2 - (counts**2).sum(-1, keepdims=True)
  disagreed = (couples - agreed) / (2 * nan_if_none(couples))
  drawn = times_drawn(draws, contrasts)
  return (drawn * disagreed).sum(-1) / nan_if_none(drawn.sum(-1))


def contested(
  draws: Draws, weights: Float[Array, 'T B'], contrasts: Contrasts
) -> Float[np.ndarray, 'J']:
  """Returns the share of comparisons on which some two of the T users disagree.

  Grows with T. Only prompts are resampled: a resample of users holds fewer different ones.
  """
  signs = np.asarray(preferences(weights, jnp.asarray(contrasts.values)))
  drawn = times_drawn(draws, contrasts)
  return drawn @ (signs.min(0) < signs.max(0)) / nan_if_none(drawn.sum(-1))


def times_drawn(draws: Draws, contrasts: Contrasts) -> Float[np.ndarray, 'J Q']:
  """Returns how often each comparison counts in each resample of the prompts."""
  return draws.prompts[:, np.searchsorted(draws.ids, contrasts.prompts)] * contrasts.weight
