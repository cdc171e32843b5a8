"""Nearest neighbours: a new user is looked up among the known ones, by how they choose."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metapers.core import masked, meta_learner, task
from metapers.core.meta_learner import MetaLearner
from metapers.core.types import Array, Float
from metapers.learners import mixture, options, user_bank
from metapers.learners import pooled as baselines
from metapers.learners.user_bank import Agreement, KnownUserBank
from metapers.learners.utility import negative_log_likelihood, utilities, utility_network


class Neighbors(NamedTuple):
  """The k nearest known users.

  heads: [k, D]. shares: p, [k], of sum 1. trust: a, of the prediction that is theirs.
  """

  heads: Float[Array, 'k D']
  shares: Float[Array, 'k']
  trust: Float[Array, '']


def lookup(
  num_features: int,
  num_histories: int,
  *,
  hidden: Sequence[int] = (64, 64),
  num_neighbors: int = 128,
  ridge: float = 1.0,
  temperature: float = 2.0,
  prior_strength: float = 1.0,
  inner_steps: int = 6,
  num_samples: int = 64,
) -> MetaLearner:
  """Returns a mixture of the k known users who explain a new user's comparisons best.

  `prepare` fits a bank: to each known user b their own u_b(x) = m(x) + v_b·x, v_b the minimum of
  NLL(history_b) + ½ ridge ‖v‖², on top of the pooled utility m(x), which alone the loss trains. For
  a support D of total weight n, with ℓ_b = log P_b(D) and the k = num_neighbors largest of them,

    P(choice) = (1 - a) P_m(choice) + a Σ_b p_b P_b(choice),
    p_b ∝ exp(ℓ_b / temperature),  a = n / (n + prior_strength).

  No comparisons, and no `prepare`, thus give the pooled answer. Draws are known users under p_b: of
  a new user about whom nothing is known they differ as known users do. The user state is ℓ and n.

  Args:
    num_features: D.
    num_histories: U, the known users whose histories `prepare` is given.
    hidden: widths of the hidden layers of m.
    num_neighbors: k; all known users where they are fewer.
    ridge: prior precision of v; large where few or noisy comparisons of many features are known.
    temperature: above 1 it corrects for the errors of the bank, which count in each ℓ_b as if they
      were the known user's own preferences.
    prior_strength: comparisons after which half of the prediction comes from the neighbours.
    inner_steps: Newton steps of each known user's fit.
    num_samples: S.

  Raises:
    ValueError: for an option out of range.

  Reference:
    Resnick et al. 1994 (GroupLens, CSCW), for predictions from the users who agreed most; Zollo et
    al. 2024, arXiv:2409.20296, for looking users up across PersonalLLM. Unlike either, users are
    near by the likelihood of choices and not by correlation or by embedding.
  """
  options.at_least_one(num_histories=num_histories, num_neighbors=num_neighbors)
  options.at_least_one(inner_steps=inner_steps, num_samples=num_samples)
  options.positive(ridge=ridge, temperature=temperature, prior_strength=prior_strength)
  network = utility_network(num_features, hidden)
  pooled = baselines.pooled(num_features, hidden=hidden)
  find = functools.partial(
    nearest, num_neighbors=num_neighbors, temperature=temperature, prior_strength=prior_strength
  )
  scores = functools.partial(user_bank.utilities_of, network)

  def init(key):
    heads = jnp.zeros((num_histories, num_features), jnp.float32)
    return {'pooled': network.init(key), 'bank': KnownUserBank(heads, heads[:, 0])._asdict()}

  @jax.jit
  def prepare(params, histories, key):
    del key
    user_bank.check_number(histories, num_histories)
    offset = functools.partial(utilities, network, params['pooled'])
    return params | {'bank': user_bank.fit_bank(offset, histories, ridge, inner_steps)._asdict()}

  def adapt(params, support, context, key):
    del context, key
    each = scores(params, params['bank']['heads'], support.candidates)
    nll = jax.vmap(negative_log_likelihood, (0, None))(each, support)
    return Agreement(-nll, task.total_weight(support))

  def update(params, user_state, comparison, context, key):
    return jax.tree.map(jnp.add, user_state, adapt(params, comparison, context, key))

  def score(params, user_state, candidates):
    found = find(params['bank'], user_state)
    return scores(params, found.trust * (found.shares @ found.heads)[None], candidates)[0]

  def predict(params, user_state, candidates):
    found = find(params['bank'], user_state)
    heads = jnp.concatenate([jnp.zeros_like(found.heads[:1]), found.heads])  # first the pooled one
    shares = jnp.append(1 - found.trust, found.trust * found.shares)
    return mixture.log_probs(scores(params, heads, candidates), shares, candidates.mask)

  def sample(params, user_state, candidates):
    found = find(params['bank'], user_state)
    return scores(params, found.heads[mixture.stratified(found.shares, num_samples)], candidates)

  def loss(params, episode, key):
    return pooled.loss(params['pooled'], episode, key)

  return meta_learner.from_adapt_score(
    init, adapt, score, predict=predict, loss=loss, sample=sample, prepare=prepare, update=update
  )


def nearest(
  bank: dict[str, Array],
  agreement: Agreement,
  *,
  num_neighbors: int,
  temperature: float,
  prior_strength: float,
) -> Neighbors:
  """Returns the known users who explain a support best; see `lookup` for the formula."""
  log_shares = agreement.log_likelihood / temperature
  smallest = float(jnp.finfo(log_shares.dtype).min)
  log_shares = masked.fill(log_shares, bank['is_used'] > 0, smallest)
  largest, rows = jax.lax.top_k(log_shares, min(num_neighbors, log_shares.size))
  trust = agreement.weight / (agreement.weight + prior_strength)
  return Neighbors(bank['heads'][rows], jax.nn.softmax(largest), trust)
