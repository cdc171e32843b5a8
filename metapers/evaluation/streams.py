"""Comparisons that arrive one by one, of people whose preferences may change midway.

At every turn a learner that was given the turns before picks a response of the turn's slate and
predicts the turn's comparison; then it is given the choice.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from metapers.core.population import Users
from metapers.core.task import Choices, Task, Truth
from metapers.core.types import Array, Bool, Int, PRNGKey
from metapers.evaluation import bootstrap, estimates, metrics
from metapers.evaluation.estimates import Estimates, EvaluationSet
from metapers.evaluation.predictions import Predictions
from metapers.populations import choice_rules


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


def owners(num_users: int, num_turns: int, change_at: int) -> Int[np.ndarray, 'T N']:
  """Returns whose turns the streams of `changed` are: neighbours share a user, not independent."""
  users, turns = np.arange(num_users)[:, None], np.arange(num_turns)[None]
  return np.where((change_at > 0) & (turns >= change_at), (users + 1) % num_users, users)


def drifted(
  support: Choices,
  truth: Truth,
  users: Users,
  *,
  change_at: Int[Array, 'T'],
  extent: float,
  key: PRNGKey,
) -> Choices:
  """Returns comparisons of users whose preferences changed, each at a turn of their own.

  From turn c_t on user t answers what they are shown by the weights (1 - e) w_t + e w_{t + 1}, with
  their own noise: e = 1 is a change to those of another user, 0 none.

  Args:
    support: comparisons of T users, in order.
    truth: of the same.
    users: T of them; pairs must not depend on their rewards.
    change_at: c, first turn of the changed preferences.
    extent: e.
    key: of the noise.
  """
  weights = (1 - extent) * users.weights + extent * jnp.roll(users.weights, -1, 0)
  size = support.candidates.mask.shape[-1]
  utilities = metrics.utilities(truth.support_rewards[..., :size, :], weights)

  def answer(key, utilities, mask, temperature, flip_rate):
    noise = {'temperature': temperature, 'flip_rate': flip_rate}
    return choice_rules.draw_choice(key, utilities, mask, **noise)

  of_turns = jax.vmap(answer, (0, 0, 0, None, None))
  keys = jax.random.split(key, support.choice.shape)
  given = keys, utilities, support.candidates.mask, users.temperature, users.flip_rate
  changed_choice = jax.vmap(of_turns)(*given).astype(support.choice.dtype)
  is_changed = (jnp.arange(support.choice.shape[1])[None] >= change_at[:, None]) & (extent > 0)
  return support._replace(choice=jnp.where(is_changed, changed_choice, support.choice))


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
  """Returns the metrics of a stream at some of its turns: [J, L].

  `turn_accuracy`: of the turns since the turn listed before, by weight. `cumulative_regret`: Σ over
  all turns so far of the best response's reward minus the pick's.

  Args:
    evaluated: the stream.
    predictions: [1, T, N, ...].
    turns: L rising numbers of turns that are over.

  Raises:
    ValueError: for turns that do not rise from 1 to N, predictions that are not finite, or people.
  """
  ends = np.asarray(turns)
  num_turns = evaluated.tasks.query.mask.shape[1]
  if not 1 <= ends[0] <= ends[-1] <= num_turns or np.any(np.diff(ends) < 1):
    raise ValueError(f'turns of a stream must rise from 1 to {num_turns}, got {tuple(turns)}')
  turn = np.arange(num_turns)
  so_far = turn < ends[:, None]  # [L, N]
  since = so_far & (turn >= np.r_[0, ends[:-1]][:, None])
  if evaluated.truth is None:
    raise ValueError('a stream needs simulated users, whose rewards of picks are known')
  observed, counted, real = jax.device_get(
    (
      metrics.numerators(predictions, evaluated.tasks, evaluated.truth),
      metrics.counted(evaluated.tasks.query).mask,
      metrics.slates_of(evaluated.truth).real,
    )
  )
  estimates.require_finite(['nll'], [observed['query']['nll']])
  correct = np.stack([observed['query']['accuracy'][0], counted]).astype(np.float32)
  weights = evaluated.weights
  names = ['accuracy', 'number of turns']
  hits, turned = estimates.weigh(weights['query'], correct[:, None] * since[:, None], names)
  lost = observed['regret']['regret'] * real.sum(-1, keepdims=True)  # whose mean is the sum
  (regret,) = estimates.weigh(weights['slate'], lost[None] * so_far[:, None], ['regret'])
  return {
    'turn_accuracy': hits / bootstrap.nan_if_none(turned),
    'cumulative_regret': regret,
  }
