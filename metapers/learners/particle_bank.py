"""A discrete prior of users, and its exact posterior: vectors, reweighted by what a user chose."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from metapers.core import choice_model, masked, meta_learner
from metapers.core.meta_learner import MetaLearner
from metapers.core.surprise import Surprise
from metapers.core.task import Candidates, Choices
from metapers.core.types import Array, Bool, Callable, Context, Float, Params
from metapers.learners import mixture, newton

Features = Callable[[Params, Candidates], Float[Array, 'N K H']]
Infer = Callable[[Params, Choices, Context], 'Bank']


class Bank(NamedTuple):
  """A distribution over S users: P(v_s) ∝ exp(log_weights_s).

  heads: v, [S, H]. log_weights: [S].
  """

  heads: Float[Array, 'S H']
  log_weights: Float[Array, 'S']


class BankLikelihood(NamedTuple):
  """What comparisons say of a bank.

  log_likelihood: Σ_n weight_n log P(choice_n | v_s), [S]. surprise: of the bank's users from
  outside; () of a bank without any.
  """

  log_likelihood: Float[Array, 'S']
  surprise: Surprise | tuple[()]


def stored(params: Params) -> Bank:
  """Returns the bank that stands in the parameters as it is used."""
  return Bank(**params['bank'])


def learner(
  init: Callable,
  features: Features,
  *,
  num_samples: int,
  bank: Callable[[Params], Bank] = stored,
  num_outside: int = 0,
  infer: Infer | None = None,
  **functions: Callable,
) -> MetaLearner:
  """Returns a learner for which a user is one of a bank, by Bayes' rule.

      p_s ∝ P(v_s) Π_n P(choice_n | v_s)^weight_n,    P(choice) = Σ_s p_s P(choice | v_s)

  The user state is `BankLikelihood`, to which `update` adds; with `infer` it is the posterior's own
  bank, and there is no `update`. Draws are members of the bank, each as often as p_s asks to within
  one: systematic resampling whose offset is in the middle.

  Args:
    init: `(key) -> params`.
    features: φ of u_s(x) = v_s·φ(x), `(params, candidates) -> [N, K, H]`.
    num_samples: draws of `sample`.
    bank: the users and how likely each is, of the parameters.
    num_outside: how many of the bank, the first, are users from outside of the population: what
      comparisons say for them and against the others is the state's `Surprise`, for which their
      prior weight counts among themselves alone.
    infer: `(params, support, context) -> Bank` gives the posterior by other means, such as `moved`;
      by default the bank is reweighted.
    **functions: others of `from_adapt_score`, such as `loss` and `prepare`.
  """

  def after(params, support, before):
    known = bank(params)
    each = log_likelihoods(known.heads, features(params, support.candidates), support)
    return with_surprise(known, before, each, num_outside)

  def update(params, user_state, comparison, context, key):
    del context, key
    return after(params, comparison, user_state)

  def adapt(params, support, context, key):
    del key
    if infer is None:
      return after(params, support, nothing(bank(params), num_outside))
    return infer(params, support, context)

  def posterior(params, user_state):
    if infer is not None:
      return user_state.heads, jax.nn.log_softmax(user_state.log_weights)
    known = bank(params)
    return known.heads, jax.nn.log_softmax(known.log_weights + user_state.log_likelihood)

  def score(params, user_state, candidates):
    heads, log_shares = posterior(params, user_state)
    return features(params, candidates) @ (jnp.exp(log_shares) @ heads)

  def predict(params, user_state, candidates):
    heads, log_shares = posterior(params, user_state)
    each = log_probs(heads, features(params, candidates), candidates.mask)
    mixed = jax.nn.logsumexp(each + log_shares[None, None], -1)
    return masked.fill(mixed, candidates.mask, float(jnp.finfo(mixed.dtype).min))

  def sample(params, user_state, candidates):
    heads, log_shares = posterior(params, user_state)
    rows = mixture.stratified(jnp.exp(log_shares), num_samples)
    return utilities(heads[rows], features(params, candidates))

  return meta_learner.from_adapt_score(
    init,
    adapt,
    score,
    predict=predict,
    sample=sample,
    update=update if infer is None else None,
    **functions,
  )


def utilities(heads: Float[Array, 'S H'], factors: Float[Array, 'N K H']) -> Float[Array, 'S N K']:
  """Returns v_s·φ(x) of each user of a bank."""
  return jnp.einsum('nkh,sh->snk', factors, heads)


def log_probs(
  heads: Float[Array, 'S H'], factors: Float[Array, 'N K H'], mask: Bool[Array, 'N K']
) -> Float[Array, 'N K S']:
  """Returns log P(k | v_s), in nats; masked candidates get the dtype's minimum.

  Users are the last axis: a CPU computes along it, and there are thousands of them for two
  candidates.
  """
  scores = jnp.einsum('nkh,sh->nks', factors, heads)
  return masked.log_softmax(scores, jnp.broadcast_to(mask[..., None], scores.shape), -2)


def log_likelihoods(
  heads: Float[Array, 'S H'], factors: Float[Array, 'N K H'], given: Choices
) -> Float[Array, 'N S']:
  """Returns weight_n log P(choice_n | v_s) of each comparison and user of a bank, in nats."""
  log_p = log_probs(heads, factors, given.candidates.mask)
  each = jax.vmap(choice_model.chosen_log_probs, (-1, None), -1)(log_p, given)
  return masked.fill(given.weight, given.mask)[:, None] * each


def nothing(bank: Bank, num_outside: int) -> BankLikelihood:
  """Returns what no comparison says of a bank."""
  zero = jnp.zeros((), bank.log_weights.dtype)
  return BankLikelihood(
    jnp.zeros_like(bank.log_weights), Surprise(zero, zero) if num_outside else ()
  )


def with_surprise(
  bank: Bank, before: BankLikelihood, each: Float[Array, 'N S'], num_outside: int
) -> BankLikelihood:
  """Returns the evidence after N more comparisons, one after another.

  Args:
    bank: of S users, the first of them from outside.
    before: them.
    each: `log_likelihoods` of the comparisons.
    num_outside: users from outside; of none there is no surprise.
  """
  if not isinstance(before.surprise, Surprise):
    return BankLikelihood(before.log_likelihood + each.sum(0), ())
  so_far = before.log_likelihood[None] + jnp.cumsum(each, 0)
  outside, inside = (
    jax.nn.logsumexp(so_far[:, rows] + jax.nn.log_softmax(bank.log_weights[rows])[None], -1)
    for rows in (slice(num_outside), slice(num_outside, None))
  )
  largest = jnp.maximum(before.surprise.largest, jnp.max(outside - inside, initial=0))
  return BankLikelihood(so_far[-1], Surprise(outside[-1] - inside[-1], largest))


def moved(
  bank: Bank,
  factors: Float[Array, 'N K H'],
  support: Choices,
  *,
  bandwidth: float,
  num_steps: int,
) -> Bank:
  """Returns the modes of the posterior under kernels N(v_s, h² I) around a bank, one of each.

  Every user of the bank moves to the mode of their own kernel's posterior, whose width is left out,
  and weighs what Laplace gives for its evidence: with ℓ the log-likelihood and H = -∇²ℓ at the mode
  v_s + h δ,

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
