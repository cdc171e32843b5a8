"""A low-rank basis of rewards shared by all users, and simplex weights of each."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from metapers.core import choice_model, meta_learner, task
from metapers.core.meta_learner import MetaLearner
from metapers.core.task import Candidates
from metapers.core.types import Array, Callable, Params, PRNGKey
from metapers.learners import options
from metapers.learners.utility import embed, negative_log_likelihood
from metapers.networks.linear_mlp import linear_mlp


def low_rank(
  num_features: int,
  num_users: int,
  *,
  hidden: Sequence[int] = (),
  rank: int = 10,
  inner_steps: int = 50,
  inner_learning_rate: float = 0.5,
  prior_strength: float = 1.0,
) -> MetaLearner:
  """Returns LoRe: u(x) = w_u · φ(x), w_u on the simplex, φ(x) = V x (+ MLP(x)) of `rank` outputs.

  φ, its scale and a table of the known users' weights are fitted jointly. A new user starts from
  their mean w̄ and solves the convex problem min_w NLL(w) + λ KL(w ‖ w̄) by exponentiated
  gradient: w ← w^(1-ηλ) w̄^(ηλ) exp(-η ∇NLL), normalised. The user state is w_u [rank].

  Args:
    num_features: D.
    num_users: U, the known users; a finite population is needed.
    hidden: widths of φ's hidden layers; none is LoRe's linear basis.
    rank: number of basis rewards.
    inner_steps: steps of the refit.
    inner_learning_rate: η (λ + n) for n comparisons: divided by what they and the prior weigh, so
      that more evidence does not overshoot. Below 1.
    prior_strength: λ > 0, in comparisons.

  Raises:
    ValueError: if there are no known users, or for an option out of range.

  Reference:
    Bose et al. 2025, arXiv:2504.14439. Unlike the paper, the refit starts at w̄ and is
    held to it by λ.
  """
  options.at_least_one(rank=rank)
  network = linear_mlp(num_features, hidden, rank)

  def init(key):
    return {'basis': network.init(key), 'log_scale': jnp.zeros((), jnp.float32)}

  def basis_scores(params, weights, candidates):
    scores = embed(network, params['basis'], candidates) @ weights
    return jnp.exp(params['log_scale']) * scores

  return on_simplex(
    'low_rank',
    init,
    basis_scores,
    num_users,
    rank,
    inner_steps=inner_steps,
    inner_learning_rate=inner_learning_rate,
    prior_strength=prior_strength,
  )


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
  """Returns a learner whose users are weights on the simplex; see `low_rank` for the refit.

  Known users' logits are a table, which is fitted jointly with what all users share.

  Args:
    name: of the learner, for what is refused.
    init_shared: `(key) -> params` of what users share; `table` is added to them.
    scores: `(params, weights [width], candidates) -> [N, K]`.
    num_users: U.
    width: number of weights.
    inner_steps: steps of the refit.
    inner_learning_rate: of the refit.
    prior_strength: λ.

  Raises:
    ValueError: if there are no known users, or for an option out of range.
  """
  if num_users < 1:
    raise ValueError(
      f'{name} fits a table of known users, and this population has none: set its num_users '
      '(a finite pool) to at least 1'
    )
  options.at_least_one(inner_steps=inner_steps)
  options.positive(inner_learning_rate=inner_learning_rate, prior_strength=prior_strength)

  def init(key):
    key_shared, key_table = jax.random.split(key)
    table = jax.random.normal(key_table, (num_users, width), jnp.float32)
    return init_shared(key_shared) | {'table': table}

  def adapt(params, support, context, key):
    del context, key
    log_mean = jnp.log(jax.nn.softmax(params['table']).mean(0))
    rate = inner_learning_rate / (prior_strength + task.total_weight(support))

    def support_loss(weights):
      return negative_log_likelihood(scores(params, weights, support.candidates), support)

    def step(log_weights, _):
      gradient = jax.grad(support_loss)(jnp.exp(log_weights))
      pull = prior_strength * (log_weights - log_mean)
      return jax.nn.log_softmax(log_weights - rate * (gradient + pull)), None

    log_weights, _ = jax.lax.scan(step, log_mean, length=inner_steps)
    return jnp.exp(log_weights)

  def loss(params, episode, key):
    del key
    everything = task.concat(episode.support, episode.query)
    row = params['table'].at[episode.user].get(mode='fill', fill_value=0)
    made = scores(params, jax.nn.softmax(row), everything.candidates)
    log_p = choice_model.log_probs(made, everything.candidates.mask)
    metrics = meta_learner.query_metrics(log_p, everything)
    return metrics['nll'], metrics

  return meta_learner.from_adapt_score(init, adapt, scores, loss=loss)
