"""A discrete prior of users, and its exact posterior: vectors, reweighted by what a user chose."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from metapers.core import meta_learner
from metapers.core.meta_learner import MetaLearner
from metapers.core.task import Candidates, Choices
from metapers.core.types import Array, Callable, Float, Params
from metapers.learners import lookup, newton
from metapers.learners.utility import negative_log_likelihood

Features = Callable[[Params, Candidates], Float[Array, 'N K H']]
Move = Callable[['Bank', Float[Array, 'N K H'], Choices], 'Bank']


class Bank(NamedTuple):
  """A distribution over S users: P(v_s) ∝ exp(log_weights_s).

  heads: v, [S, H]. log_weights: [S].
  """

  heads: Float[Array, 'S H']
  log_weights: Float[Array, 'S']


class Evidence(NamedTuple):
  """What comparisons say of a bank. log_likelihood: Σ_n weight_n log P(choice_n | v_s), [S]."""

  log_likelihood: Float[Array, 'S']


def learner(
  init: Callable,
  features: Features,
  *,
  num_samples: int,
  move: Move | None = None,
  **functions: Callable,
) -> MetaLearner:
  """Returns a learner for which a user is one of `params['bank']`, by Bayes' rule.

      p_s ∝ P(v_s) Π_n P(choice_n | v_s)^weight_n,    P(choice) = Σ_s p_s P(choice | v_s)

  The user state is `Evidence`, to which `update` adds; with `move` it is the posterior's own bank,
  and there is no `update`. Draws are members of the bank, each as often as p_s asks to within one:
  systematic resampling whose offset is in the middle.

  Args:
    init: `(key) -> params`.
    features: φ of u_s(x) = v_s·φ(x), `(params, candidates) -> [N, K, H]`.
    num_samples: draws of `sample`.
    move: gives the posterior of a bank by other means, as `moved`; by default it is reweighted.
    **functions: others of `from_adapt_score`, such as `loss` and `prepare`.
  """

  def evidence(params, support, context, key):
    del context, key
    factors = features(params, support.candidates)
    return Evidence(log_likelihoods(params['bank']['heads'], factors, support))

  def update(params, user_state, comparison, context, key):
    return jax.tree.map(jnp.add, user_state, evidence(params, comparison, context, key))

  def adapt(params, support, context, key):
    if move is None:
      return evidence(params, support, context, key)
    return move(Bank(**params['bank']), features(params, support.candidates), support)

  def posterior(params, user_state):
    if move is not None:
      return user_state.heads, jax.nn.softmax(user_state.log_weights)
    log_weights = params['bank']['log_weights'] + user_state.log_likelihood
    return params['bank']['heads'], jax.nn.softmax(log_weights)

  def score(params, user_state, candidates):
    heads, shares = posterior(params, user_state)
    return features(params, candidates) @ (shares @ heads)

  def predict(params, user_state, candidates):
    heads, shares = posterior(params, user_state)
    scores = utilities(heads, features(params, candidates))
    return lookup.mixture(scores, shares, candidates.mask)

  def sample(params, user_state, candidates):
    heads, shares = posterior(params, user_state)
    rows = lookup.stratified(shares, num_samples)
    return utilities(heads[rows], features(params, candidates))

  return meta_learner.from_adapt_score(
    init,
    adapt,
    score,
    predict=predict,
    sample=sample,
    update=update if move is None else None,
    **functions,
  )


def utilities(heads: Float[Array, 'S H'], factors: Float[Array, 'N K H']) -> Float[Array, 'S N K']:
  """Returns v_s·φ(x) of each user of a bank."""
  return jnp.einsum('nkh,sh->snk', factors, heads)


def log_likelihoods(
  heads: Float[Array, 'S H'], factors: Float[Array, 'N K H'], given: Choices
) -> Float[Array, 'S']:
  """Returns Σ_n weight_n log P(choice_n | v_s) of each user of a bank, in nats."""
  nll = jax.vmap(negative_log_likelihood, (0, None))
  return -nll(utilities(heads, factors), given)


def moved(
  bank: Bank,
  factors: Float[Array, 'N K H'],
  support: Choices,
  *,
  bandwidth: float,
  num_steps: int,
) -> Bank:
  """Returns the posterior under kernels N(v_s, h² I) around a bank, by Laplace in each of them.

  Every user of the bank moves to the mode of their own kernel's posterior, and weighs what Laplace
  gives for its evidence: with ℓ the log-likelihood and H = -∇²ℓ at the mode v_s + h δ,

      log P(D | s) ≈ ℓ - ½‖δ‖² - ½ log det(I + h² H)

  Args:
    bank: of which each user is the centre of a kernel.
    factors: φ of the support, [N, K, H].
    support: one user's comparisons; nothing non-finite may stand in masked entries.
    bandwidth: h.
    num_steps: Newton steps with line search.
  """

  def of_one(head):
    offset, scaled = factors @ head, bandwidth * factors
    away = newton.mode(offset, scaled, support, num_steps=num_steps)
    contrasts = newton.weighted_contrasts(away, offset, scaled, support)
    unit = jnp.eye(head.size, dtype=head.dtype)
    volume = jnp.linalg.slogdet(unit + contrasts.T @ contrasts)[1]
    energy = newton.objective(away, offset, scaled, support)
    return head + bandwidth * away, -energy - 0.5 * volume

  heads, log_evidence = jax.vmap(of_one)(bank.heads)
  return Bank(heads, bank.log_weights + log_evidence)
