"""A discrete prior of users and its exact posterior: vectors with weights, reweighted by choices."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from metapers.core import choice_model, meta_learner
from metapers.core.meta_learner import MetaLearner
from metapers.core.task import Candidates
from metapers.core.types import Array, Callable, Float, Params
from metapers.learners import lookup
from metapers.learners.utility import negative_log_likelihood

Features = Callable[[Params, Candidates], Float[Array, 'N K H']]


class Bank(NamedTuple):
  """A prior of S users: P(v_s) = softmax(log_weights)_s.

  heads: v, [S, H]. log_weights: [S], up to a constant.
  """

  heads: Float[Array, 'S H']
  log_weights: Float[Array, 'S']


class Evidence(NamedTuple):
  """What one user's comparisons say. log_likelihood: Σ_n weight_n log P(choice_n | v_s), [S]."""

  log_likelihood: Float[Array, 'S']


def learner(
  init: Callable, features: Features, *, num_samples: int, **functions: Callable
) -> MetaLearner:
  """Returns a learner whose user is one of the bank `params['bank']`, by Bayes' rule.

      p_s ∝ P(v_s) Π_n P(choice_n | v_s)^weight_n,    P(choice) = Σ_s p_s P(choice | v_s)

  The user state is `Evidence`, to which `update` adds. Draws are of the bank, each as often as p_s
  asks to within one: systematic resampling with its offset in the middle.

  Args:
    init: `(key) -> params`.
    features: φ, `(params, candidates) -> [N, K, H]`.
    num_samples: draws of `sample`.
    **functions: others of `from_adapt_score`, such as `loss` and `prepare`.
  """

  def adapt(params, support, context, key):
    del context, key
    scores = utilities(params['bank']['heads'], features(params, support.candidates))
    nll = jax.vmap(negative_log_likelihood, (0, None))(scores, support)
    return Evidence(-nll)

  def update(params, user_state, comparison, context, key):
    return jax.tree.map(jnp.add, user_state, adapt(params, comparison, context, key))

  def score(params, user_state, candidates):
    return features(params, candidates) @ (posterior(params, user_state) @ params['bank']['heads'])

  def predict(params, user_state, candidates):
    scores = utilities(params['bank']['heads'], features(params, candidates))
    return lookup.mixture(scores, posterior(params, user_state), candidates.mask)

  def sample(params, user_state, candidates):
    rows = lookup.stratified(posterior(params, user_state), num_samples)
    return utilities(params['bank']['heads'][rows], features(params, candidates))

  return meta_learner.from_adapt_score(
    init, adapt, score, predict=predict, sample=sample, update=update, **functions
  )


def posterior(params: Params, evidence: Evidence) -> Float[Array, 'S']:
  """Returns p_s of each user of the bank, of sum 1."""
  return jax.nn.softmax(params['bank']['log_weights'] + evidence.log_likelihood)


def utilities(
  heads: Float[Array, 'S H'], features: Float[Array, 'N K H']
) -> Float[Array, 'S N K']:
  """Returns v_s·φ(x) of each user of the bank."""
  return jnp.einsum('nkh,sh->snk', features, heads)


def log_likelihoods(scores: Float[Array, 'S N K'], mask: Array, choice: Array) -> Array:
  """Returns log P(choice_n | v_s), [S, N]."""
  log_p = jax.vmap(choice_model.log_probs, (0, None))(scores, mask)
  return jnp.take_along_axis(log_p, choice[None, :, None], -1)[..., 0]
