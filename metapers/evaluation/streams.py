"""Comparisons that arrive one by one, of people whose preferences may change midway.

At every turn a learner that was given the turns before picks a response of the turn's slate and
predicts the turn's comparison; then it is given the choice.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from metapers.core.task import Task, Truth
from metapers.core.types import Array, Bool, Float
from metapers.evaluation import bootstrap, estimates, metrics
from metapers.evaluation.estimates import Estimates, EvaluationSet
from metapers.evaluation.predictions import Predictions


def as_stream(tasks: Task, truth: Truth, change_at: int) -> tuple[Task, Truth]:
  """Returns episodes whose query is their support: what arrives is predicted first.

  Changed preferences are another user's: from turn `change_at` on, user t is shown what user t + 1
  was, and answers as they did. The weights of both stand side by side, [2 B], and the rewards of a
  turn in the half of those that apply.

  Args:
    tasks: T users with N comparisons in the support.
    truth: of the same, with M = N slates.
    change_at: first turn of the changed preferences; 0 for none.

  Raises:
    ValueError: for fewer slates than turns, or `change_at` out of range.
  """
  num_turns = tasks.support.mask.shape[1]
  if truth.slate_prompts.shape[1] != num_turns or not 0 <= change_at < num_turns:
    raise ValueError(
      f'a stream of {num_turns} turns (num_support) needs as many slates (num_slates), got '
      f'{truth.slate_prompts.shape[1]}, and change_at in 0..{num_turns - 1}, got {change_at}'
    )
  if change_at:
    tasks, truth = changed(tasks, truth, change_at)
  streamed = truth._replace(
    query_rewards=truth.support_rewards,
    query_mask=truth.support_mask,
    query_prompts=truth.support_prompts,
  )
  return tasks._replace(query=tasks.support), streamed


def changed(tasks: Task, truth: Truth, change_at: int) -> tuple[Task, Truth]:
  """Returns every user with the next one's turns from `change_at` on."""

  def join(x):
    return jnp.concatenate([x[:, :change_at], jnp.roll(x, -1, 0)[:, change_at:]], 1)

  def beside(x):
    zeros = jnp.zeros_like(x)
    first, second = (jnp.concatenate(pair, -1) for pair in ((x, zeros), (zeros, x)))
    return jnp.concatenate([first[:, :change_at], jnp.roll(second, -1, 0)[:, change_at:]], 1)

  weights = jnp.concatenate([truth.weights, jnp.roll(truth.weights, -1, 0)], -1)
  moved = truth._replace(
    weights=weights,
    support_rewards=beside(truth.support_rewards),
    support_mask=join(truth.support_mask),
    support_prompts=join(truth.support_prompts),
    slate=jax.tree.map(join, truth.slate),
    slate_rewards=beside(truth.slate_rewards),
    slate_prompts=join(truth.slate_prompts),
    slate_models=join(truth.slate_models),
  )
  return tasks._replace(support=jax.tree.map(join, tasks.support)), moved


def by_turn(predictions: Predictions, mask: Bool[Array, 'T N']) -> Predictions:
  """Returns, of predictions after 0, 1, 2, ... comparisons, those of the turn that came next.

  Args:
    predictions: [L = N, T, N, ...].
    mask: real turns; the others say nothing, and are not counted among the comparisons.

  Returns:
    Predictions [1, T, N, ...].
  """
  before = jnp.cumsum(mask, 1) - mask  # real comparisons of user t before turn n
  users, turns = jnp.arange(mask.shape[0])[:, None], jnp.arange(mask.shape[1])
  return jax.tree.map(lambda x: x[before, users, turns][None], predictions)


def estimate(evaluated: EvaluationSet, predictions: Predictions, turns: Sequence[int]) -> Estimates:
  """Returns the metrics of a stream at some of its turns: [J, L]; users are resampled.

  `turn_accuracy`: of the turns since the turn listed before, by weight. `cumulative_regret`: Σ over
  all turns so far of the best response's reward minus the pick's.

  Args:
    evaluated: the stream.
    predictions: [1, T, N, ...].
    turns: L rising numbers of turns that are over.

  Raises:
    ValueError: for turns that do not rise from 1 to N, or predictions that are not finite.
  """
  observed = jax.device_get(metrics.numerators(predictions, evaluated.tasks, evaluated.truth))
  query = evaluated.tasks.query
  weight = np.where(query.mask, query.weight, 0)
  ends = np.asarray(turns)
  if not 1 <= ends[0] <= ends[-1] <= weight.shape[1] or np.any(np.diff(ends) < 1):
    raise ValueError(f'turns of a stream must rise from 1 to {weight.shape[1]}, got {tuple(turns)}')
  correct = at_turns(weight * observed['query']['accuracy'][0], ends)
  total = at_turns(weight, ends)
  nll, lost = observed['query']['nll'], observed['regret']['regret']
  estimates.require_finite(['nll', 'regret'], [nll, lost])
  counts = evaluated.draws.users
  hits, turned = (counts @ np.diff(x, prepend=0, axis=1) for x in (correct, total))
  regret = at_turns(lost[0], ends)
  mean = counts @ regret / bootstrap.nan_if_none(counts.sum(-1, keepdims=True))
  return {'turn_accuracy': hits / turned, 'cumulative_regret': mean}


def at_turns(values: Float[Array, 'T N'] | np.ndarray, ends: np.ndarray) -> np.ndarray:
  """Returns the running sums [T, L] after some numbers of turns."""
  return np.cumsum(np.asarray(values, np.float64), axis=1)[:, ends - 1]
