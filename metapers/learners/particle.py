"""A learned bank of users, reweighted by what a new user chooses: a nonparametric prior."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from metapers.core import meta_learner, task
from metapers.core.meta_learner import MetaLearner
from metapers.learners import lookup, options, particle_bank
from metapers.learners.utility import embed, negative_log_likelihood
from metapers.networks.linear_mlp import linear_mlp


def particle(
  num_features: int,
  *,
  hidden: Sequence[int] = (),
  width: int = 16,
  num_particles: int = 1024,
  init_scale: float = 3.0,
  ridge: float = 0.05,
  inner_steps: int = 12,
  num_samples: int = 64,
) -> MetaLearner:
  network = linear_mlp(num_features, hidden, width) if hidden else None
  num_heads = width if hidden else num_features

  def init(key):
    key_bank, key_network = jax.random.split(key)
    heads = init_scale * jax.random.normal(key_bank, (num_particles, num_heads), jnp.float32)
    bank = particle_bank.Bank(heads, jnp.zeros(num_particles, jnp.float32))._asdict()
    return {'bank': bank} | ({'features': network.init(key_network)} if network else {})

  def features(params, candidates):
    return embed(network, params['features'], candidates) if network else candidates.features

  def start(params, histories, key):
    num_users = histories.user.shape[0]
    if not num_users or hidden:
      return params
    fitted = lookup.fit_bank(
      lambda c: jnp.zeros(c.mask.shape, jnp.float32), histories, ridge, inner_steps
    )
    rows = jnp.arange(num_particles, dtype=jnp.int32) % num_users
    noise = jax.random.normal(key, (num_particles, num_heads), jnp.float32)
    copy = (jnp.arange(num_particles) >= num_users).astype(jnp.float32)
    heads = fitted.heads[rows] + 0.3 * copy[:, None] * noise
    return params | {'bank': params['bank'] | {'heads': heads}}

  def loss(params, episode, key):
    del key
    support, query = episode.support, episode.query
    heads = params['bank']['heads']
    log_prior = jax.nn.log_softmax(params['bank']['log_weights'])
    nll = lambda given: jax.vmap(negative_log_likelihood, (0, None))(
      particle_bank.utilities(heads, features(params, given.candidates)), given
    )
    before = nll(support)
    total = task.total_weight(support) + task.total_weight(query)
    evidence = jax.nn.logsumexp(log_prior - before - nll(query))
    scores = particle_bank.utilities(heads, features(params, query.candidates))
    log_p = lookup.mixture(scores, jax.nn.softmax(log_prior - before), query.candidates.mask)
    return -evidence / jnp.maximum(total, 1), meta_learner.query_metrics(
      jax.lax.stop_gradient(log_p), query
    )

  return particle_bank.learner(init, features, num_samples=num_samples, loss=loss, start=start)
