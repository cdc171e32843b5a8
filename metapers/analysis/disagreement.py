"""How much simulated users disagree: with one another, and with the nearest user seen in training.

A user prefers a over b where w·(z_a - z_b) > 0, without noise; one who is indifferent disagrees
half of the time. Where the nearest seen user agrees on everything, a new user is one by name only.

Reference:
  Dong et al. 2025, "When Personalization Meets Reality", reports for each data set the share of
  comparisons on which users disagree; `contested` is that share for the users at hand.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metapers.core.task import Task, Truth
from metapers.core.types import Array, Bool, Float, Int, PRNGKey
from metapers.evaluation.bootstrap import Draws, nan_if_none
from metapers.populations import choice_rules


class Pairs(NamedTuple):
  """Q comparisons of two responses. contrasts: [Q, B], z_a - z_b. prompts: [Q] ids."""

  contrasts: Float[np.ndarray, 'Q B']
  prompts: Int[np.ndarray, 'Q']


def draw_pairs(
  key: PRNGKey,
  rewards: Float[Array, 'P R B'],
  mask: Bool[Array, 'P R'],
  prompts: Int[np.ndarray, 'G'],
  *,
  num_pairs: int = 2000,
) -> Pairs:
  """Draws random pairs of responses to some prompts, whatever the pair rule of a population.

  Args:
    key: PRNG key.
    rewards: [P, R, B] scores of the population.
    mask: [P, R], which responses may be shown.
    prompts: [G] ids to draw from, such as `evaluated.draws.ids`.
    num_pairs: Q; fewer come back where a prompt drawn has fewer than two responses.
  """
  contrasts, drawn, is_pair = jax.device_get(
    _draw_pairs(key, rewards, mask, jnp.asarray(prompts), num_pairs)
  )
  return Pairs(contrasts[is_pair], drawn[is_pair])


@functools.partial(jax.jit, static_argnums=4)
def _draw_pairs(key, rewards, mask, prompts, num_pairs):
  key_prompts, key_pairs = jax.random.split(key)
  drawn = prompts[jax.random.randint(key_prompts, (num_pairs,), 0, prompts.size)]

  def contrast(key, prompt):
    slate, real = rewards[prompt], mask[prompt]
    shown, is_pair = choice_rules.draw_shown(
      key, slate, slate[:, 0], real, pair_rule='random', num_candidates=2
    )
    return slate[shown[0]] - slate[shown[1]], is_pair

  contrasts, is_pair = jax.vmap(contrast)(jax.random.split(key_pairs, num_pairs), drawn)
  return contrasts, drawn, is_pair


def judged_pairs(tasks: Task, truth: Truth, *, num_pairs: int = 2000) -> Pairs:
  """Returns the first two candidates of query comparisons, evenly spread over users and turns."""
  real = np.asarray(tasks.query.mask).ravel()
  shown = np.asarray(truth.query_rewards[:, :, :2])
  contrasts = (shown[:, :, 0] - shown[:, :, 1]).reshape(real.size, -1)
  there = np.flatnonzero(real)
  chosen = there[np.linspace(0, there.size - 1, min(num_pairs, there.size)).round().astype(int)]
  return Pairs(contrasts[chosen], np.asarray(truth.query_prompts).ravel()[chosen])


@jax.jit
def preferences(
  weights: Float[Array, 'T B'], contrasts: Float[Array, 'Q B']
) -> Float[Array, 'T Q']:
  """Returns what users prefer: 1 the first response, -1 the second, 0 neither."""
  return jnp.sign(weights @ contrasts.T)


@functools.partial(jax.jit, static_argnames='chunk_size')
def nearest_l1(
  weights: Float[Array, 'T B'], seen: Float[Array, 'U B'], *, chunk_size: int = 16
) -> Float[Array, 'T']:
  """Returns min_u Σ_b |w_tb - w_ub|, from 0 (the same) to 2: [T]."""

  def nearest(user):
    return jnp.min(jnp.sum(jnp.abs(seen - user[None]), -1))

  return jax.lax.map(nearest, weights, batch_size=chunk_size)


@functools.partial(jax.jit, static_argnames='chunk_size')
def nearest_disagreement(
  weights: Float[Array, 'T B'],
  seen: Float[Array, 'U B'],
  contrasts: Float[Array, 'Q B'],
  *,
  chunk_size: int = 64,
) -> Float[Array, 'T']:
  """Returns the share of comparisons on which each user and the nearest seen one differ: [T].

  Args:
    weights: [T, B] of new users.
    seen: [U, B] of users of training.
    contrasts: [Q, B] of the comparisons.
    chunk_size: new users at once; U · Q preferences are held besides.
  """
  theirs = preferences(seen, contrasts)

  def nearest(user):
    return jnp.min((1 - theirs @ preferences(user[None], contrasts)[0] / len(contrasts)) / 2)

  return jax.lax.map(nearest, weights, batch_size=chunk_size)


def rate(draws: Draws, weights: Float[Array, 'T B'], pairs: Pairs) -> Float[np.ndarray, 'J']:
  """Returns how often two different users disagree on a comparison, with resamples of both.

  mean over comparisons of (1 - Σ_{t≠u} s_t s_u / (T (T - 1))) / 2, with s the `preferences`.

  Args:
    draws: of users and prompts; the prompts of `pairs` are among them.
    weights: [T, B].
    pairs: the comparisons.
  """
  signs = np.asarray(preferences(weights, jnp.asarray(pairs.contrasts)))  # [T, Q]
  counts = draws.users
  agreed = (counts @ signs) ** 2 - counts**2 @ signs**2
  # Two draws of one user are no pair: they would always agree.
  couples = counts.sum(-1, keepdims=True) ** 2 - (counts**2).sum(-1, keepdims=True)
  disagreed = (1 - agreed / nan_if_none(couples)) / 2
  drawn = prompt_counts(draws, pairs)
  return (drawn * disagreed).sum(-1) / nan_if_none(drawn.sum(-1))


def contested(draws: Draws, weights: Float[Array, 'T B'], pairs: Pairs) -> Float[np.ndarray, 'J']:
  """Returns the share of comparisons on which some two of the T users disagree.

  Grows with T. Only prompts are resampled: a resample of users holds fewer different ones.
  """
  signs = np.asarray(preferences(weights, jnp.asarray(pairs.contrasts)))
  drawn = prompt_counts(draws, pairs)
  return drawn @ (signs.min(0) < signs.max(0)) / nan_if_none(drawn.sum(-1))


def prompt_counts(draws: Draws, pairs: Pairs) -> Float[np.ndarray, 'J Q']:
  """Returns how often the prompt of each comparison was drawn."""
  return draws.prompts[:, np.searchsorted(draws.ids, pairs.prompts)]
