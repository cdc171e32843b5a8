"""A learner of preferences that may change: averaged over the comparison since which they hold."""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metapers.core import meta_learner, task
from metapers.core.meta_learner import MetaLearner, Update
from metapers.core.types import Any, Array, Float, UserState
from metapers.learners import inner as inners
from metapers.learners import mixture, options, prequential

INNER = {'name': 'dirichlet_mixture'}
NOTHING = -1e9  # log-weight of a place that holds no stretch: a state must be finite


class Stretches(NamedTuple):
  """What is known of a user from the comparisons since each of R possible changes.

  states: of the inner learner, [R, ...]. log_weights: log P(start) before the next comparison, [R].
  """

  states: UserState
  log_weights: Float[Array, 'R']


def resetting(
  num_features: int,
  *,
  num_users: int = 0,
  num_histories: int = 0,
  num_context: int = 0,
  history_length: int = 0,
  outcomes: Sequence[str] = (),
  inner: dict[str, Any] = INNER,
  hazard: float = 0.01,
  num_starts: int = 16,
  num_samples: int = 64,
) -> MetaLearner:
  """Returns a learner that forgets what was before a change, as far as it believes in one.

      P(choice_n) = Σ_m P(start = m | choices before n) P(choice_n | choices m..n-1),

  where preferences are drawn anew with probability h before each comparison but the first, and are
  those that the inner learner describes until then: `evaluation.change_points.posterior`. Of the
  starts the R likeliest are kept; the next comparison always has a place. Parameters are the inner
  learner's, and so is what trains them. With h = 0 it is that learner.

  Comparisons count in the order in which they were made. A weight is a power of the probability: a
  comparison of weight 2 is one occasion to change, not two. `update` costs R of the inner one.

  Args:
    num_features: D.
    num_users: U, the known users, for an inner learner that asks.
    num_histories: of users shown to `prepare`, for an inner learner that asks.
    num_context: C, for an inner learner that asks.
    history_length: comparisons of a history, for an inner learner that asks.
    outcomes: kinds of answers beside the plain choice, for an inner learner that asks.
    inner: `name` and options of a learner that has `update`.
    hazard: h, of at least 0 and below 1.
    num_starts: R.
    num_samples: S.

  Raises:
    ValueError: for an inner learner without a name, unknown, coupled or without `update`, for
      outcomes that it refuses, as the default one does, or an option out of range.

  Reference:
    Adams and MacKay 2007, arXiv:0710.3742; Fearnhead and Liu 2007 (JRSS B 69(4)). Unlike the
    latter, which resamples starts, the least likely one gives way.
  """
  options.at_least_one(num_samples=num_samples)
  if num_starts < 2 or not 0 <= hazard < 1:
    raise ValueError(
      f'num_starts must be at least 2 and hazard lie in [0, 1), got {num_starts} and {hazard}'
    )
  sizes = {
    'num_features': num_features,
    'num_users': num_users,
    'num_histories': num_histories,
    'num_context': num_context,
    'history_length': history_length,
    'outcomes': outcomes,
  }
  learner = inners.named(inner, sizes)
  if learner.update is None:
    raise ValueError(
      f'inner={inner} has no update, and resetting goes on from each of its starts: choose a '
      'learner that has one, such as dirichlet_mixture, lookup or pooled'
    )
  return averaged(learner, learner.update, hazard, num_starts, num_samples)


def averaged(
  learner: MetaLearner, going_on: Update, hazard: float, num_starts: int, num_samples: int
) -> MetaLearner:
  """Returns the average of a learner over its starts, see `resetting`.

  Args:
    learner: the inner one.
    going_on: its `update`.
    hazard: h.
    num_starts: R.
    num_samples: S.
  """

  # The size is said, for a state may hold nothing, as that of `pooled`.
  over_starts = functools.partial(jax.vmap, in_axes=(None, 0, None), axis_size=num_starts)

  def at_first(params, support, context, key):
    return learner.adapt(params, task.with_shots(support, 0), context, key)

  def adapt(params, support, context, key):
    state = at_first(params, support, context, key)
    states = jax.tree.map(lambda x: jnp.broadcast_to(x, (num_starts, *x.shape)), state)
    start = jnp.full(num_starts, NOTHING, jnp.float32).at[0].set(0)

    def step(user_state, n):
      comparison = prequential.one_of(support, n)
      after = update(params, user_state, comparison, context, key)
      return chosen_state(comparison.mask[0], after, user_state), None

    turns = jnp.arange(support.choice.shape[0], dtype=jnp.int32)
    return jax.lax.scan(step, Stretches(states, start), turns)[0]

  def update(params, user_state, comparison, context, key):
    def one(state):
      value = prequential.of_choice(learner, params, state, comparison)
      return value, going_on(params, state, comparison, context, key)

    values, states = jax.vmap(one, axis_size=num_starts)(user_state.states)
    new = at_first(params, comparison, context, key)
    after = begun(Stretches(states, user_state.log_weights + values), new, hazard)
    return chosen_state(comparison.weight[0] > 0, after, user_state)

  def score(params, user_state, candidates):
    each = over_starts(learner.score)(params, user_state.states, candidates)
    return jnp.einsum('r,rnk->nk', jnp.exp(user_state.log_weights), each)

  def predict(params, user_state, candidates):
    each = over_starts(learner.predict)(params, user_state.states, candidates)
    return mixture.log_probs(each, jnp.exp(user_state.log_weights), candidates.mask)

  def sample(params, user_state, candidates):
    drawn = over_starts(learner.sample)(params, user_state.states, candidates)
    rows = mixture.stratified(jnp.exp(user_state.log_weights), num_samples)
    return drawn[rows, mixture.own_draws(rows, *drawn.shape[:2])]

  return meta_learner.from_adapt_score(
    learner.init,
    adapt,
    score,
    predict=predict,
    loss=learner.loss,
    sample=sample if learner.has_posterior or hazard > 0 else None,
    start=learner.start,
    prepare=learner.prepare,
    update=update,
  )


def begun(stretches: Stretches, new: UserState, hazard: float) -> Stretches:
  """Returns stretches of which a new one, of probability h, takes the place of the least likely."""
  place = jnp.argmin(stretches.log_weights)
  rest = jax.nn.log_softmax(stretches.log_weights.at[place].set(NOTHING)) + math.log1p(-hazard)
  log_weights = rest.at[place].set(math.log(hazard) if hazard else NOTHING)
  states = jax.tree.map(lambda every, one: every.at[place].set(one), stretches.states, new)
  return Stretches(states, jnp.maximum(log_weights, NOTHING))


def chosen_state(is_new: Array, new: Stretches, old: Stretches) -> Stretches:
  """Returns the new state where something was said, else the old one."""
  return jax.tree.map(lambda a, b: jnp.where(is_new, a, b), new, old)
