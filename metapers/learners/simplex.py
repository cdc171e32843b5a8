"""Users as weights on a simplex: a table of the known ones, and a convex refit of a new one."""

import jax
import jax.numpy as jnp

from metapers.core import choice_model, meta_learner, task
from metapers.core.meta_learner import MetaLearner
from metapers.core.task import Candidates
from metapers.core.types import Array, Callable, Float, Metrics, Params, PRNGKey, Scalar
from metapers.learners import options
from metapers.learners.utility import negative_log_likelihood

ROUNDING = 1e-6  # relative, of an objective in float32


def on_simplex(
  name: str,
  init_shared: Callable[[PRNGKey], Params],
  scores: Callable[[Params, Array, Candidates], Array],
  num_users: int,
  width: int,
  *,
  inner_steps: int,
  inner_learning_rate: float,
  prior_strength: float,
) -> MetaLearner:
  """Returns a learner whose users are weights on the simplex; held to the known users' mean.

  Known users' logits are a table, which is fitted jointly with what all users share. A new user
  starts from their mean w̄ and solves min_w NLL(w) + λ KL(w ‖ w̄) by exponentiated gradient:
  w ← w^(1-ηλ) w̄^(ηλ) exp(-η ∇NLL), normalised, with η halved where a step raises the objective.

  Args:
    name: of the learner, for what is refused.
    init_shared: `(key) -> params` of what users share; `table` is added to them.
    scores: `(params, weights [width], candidates) -> [N, K]`.
    num_users: U.
    width: number of weights.
    inner_steps: steps of the refit.
    inner_learning_rate: η (λ + n) for n comparisons, at the first step: divided by what they and
      the prior weigh. Below 1.
    prior_strength: λ > 0, in comparisons.

  Raises:
    ValueError: if there are no known users, or for an option out of range.
  """
  options.known_users(name, num_users)
  options.at_least_one(inner_steps=inner_steps)
  options.share(inner_learning_rate=inner_learning_rate)
  options.positive(prior_strength=prior_strength)

  def init(key):
    key_shared, key_table = jax.random.split(key)
    table = jax.random.normal(key_table, (num_users, width), jnp.float32)
    return init_shared(key_shared) | {'table': table}

  def adapt(params, support, context, key):
    del context, key
    log_mean = log_mean_of(params['table'])
    rate = inner_learning_rate / (prior_strength + task.total_weight(support))

    def support_loss(weights):
      return negative_log_likelihood(scores(params, weights, support.candidates), support)

    def at(log_weights):
      value, gradient = jax.value_and_grad(support_loss)(jnp.exp(log_weights))
      pull = prior_strength * (log_weights - log_mean)
      return log_weights, value + jnp.exp(log_weights) @ pull, gradient + pull

    def step(state, _):
      rate, before = state
      log_weights, value, slope = before
      found = at(jax.nn.log_softmax(log_weights - rate * slope))
      # Curvature grows with the square of the scores. What rounding raises is no rise.
      is_lower = found[1] <= value + ROUNDING * (1 + jnp.abs(value))
      kept = jax.tree.map(lambda new, old: jnp.where(is_lower, new, old), found, before)
      return (jnp.where(is_lower, rate, rate / 2), kept), None

    (_, (log_weights, *_)), _ = jax.lax.scan(step, (rate, at(log_mean)), length=inner_steps)
    return jnp.exp(log_weights)

  return meta_learner.from_adapt_score(
    init, adapt, scores, loss=loss_of_rows(scores, jax.nn.softmax)
  )


def loss_of_rows(
  scores: Callable[[Params, Array, Candidates], Array],
  of_row: Callable[[Array], Array],
  penalty: Callable[[Array], Scalar | float] = lambda weights: 0.0,
) -> Callable[..., tuple[Scalar, Metrics]]:
  """Returns the loss of a known user: of all their comparisons under their row of the table.

  Args:
    scores: `(params, weights, candidates) -> [N, K]`.
    of_row: `(row) -> weights`.
    penalty: `(weights) -> nats`.
  """

  def loss(params, episode, key):
    del key
    everything = task.concat(episode.support, episode.query)
    weights = of_row(params['table'].at[episode.user].get(mode='fill', fill_value=0))
    made = scores(params, weights, everything.candidates)
    log_p = choice_model.log_probs(made, everything.candidates.mask)
    metrics = meta_learner.query_metrics(log_p, everything)
    return metrics['nll'] + penalty(weights), metrics

  return loss


def log_mean_of(table: Float[Array, 'U H']) -> Float[Array, 'H']:
  """Returns the log of the mean weights of users whose logits stand in a table."""
  return jax.nn.logsumexp(jax.nn.log_softmax(table), 0) - jnp.log(table.shape[0])
