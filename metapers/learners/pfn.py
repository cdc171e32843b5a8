"""A prior-fitted network: the posterior of any of many populations, in one pass of a network."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from metapers.core import masked, task
from metapers.core.meta_learner import MetaLearner
from metapers.core.task import Choices
from metapers.core.types import Array, Context, Float, Params, PRNGKey
from metapers.learners import neural_process, options, particle_bank
from metapers.learners.particle_bank import Bank
from metapers.networks.mlp import mlp
from metapers.networks.network import Network

NUM_READINGS = 3  # of a hypothesis's comparison: a feature's difference, its gap, how wrong it is


def pfn(
  num_features: int,
  num_context: int = 0,
  *,
  width: int = 16,
  hidden: int = 32,
  num_rounds: int = 4,
  num_hypotheses: int = 4,
  num_samples: int = 64,
) -> MetaLearner:
  """Returns P(k) = Σ_m π_m softmax_k(v_m · x), with v and π from a network that reads the support.

  Each of M hypotheses keeps H numbers e_md about every feature d. In each round it predicts every
  comparison and is told how wrong it was; with g_n = x(chosen) - x̄(others):

      v_md = r·e_md,  γ_mn = v_m · g_n,
      h_md = Σ_n weight_n gelu(A e_md + B [g_nd, γ_mn, σ(-γ_mn)] + b) / (1 + Σ_n weight_n),
      e_md ← e_md + MLP([e_md, h_md, means of both over d, log(1 + Σ_n weight_n), context])

  All weights are shared by features and hypotheses, so that features may come in any order and, as
  parameters do not depend on their number, in any number; comparisons may come in any order.
  Trained on a mixture of populations (of concentrations, noise, pair rules and numbers of
  comparisons) by the NLL of the query it approaches the exact answer under that mixture; with a
  context, what it is told. That is so of pairs: of more candidates g_n says less than the answer
  does, and of a tie (`core.outcomes`) nothing of how near the two texts are, for it is the flag
  alone, with a part of their sum where both can be called bad. The user state is v and log π.

  Args:
    num_features: D.
    num_context: C, of what is told of the user's setting.
    width: H.
    hidden: of the perceptrons, and of h.
    num_rounds: of reading the support.
    num_hypotheses: M.
    num_samples: draws of `sample`: hypotheses as often as π asks.

  Raises:
    ValueError: for an option out of range.

  Reference:
    Müller et al. 2022 (Transformers can do Bayesian inference), arXiv:2112.10510; Zaheer et al.
    2017 (Deep sets), arXiv:1703.06114. Unlike the first, comparisons do not attend to each other
    but meet in the hypotheses, and the network is equivariant to features.
  """
  options.at_least_one(width=width, hidden=hidden, num_rounds=num_rounds)
  options.at_least_one(num_hypotheses=num_hypotheses, num_samples=num_samples)
  networks = {
    'own': mlp(width, (), hidden),
    'read': mlp(NUM_READINGS, (), hidden),
    'revise': mlp(2 * (width + hidden) + 1 + num_context, (hidden,), width),
  }
  readout, share = mlp(width, (), 1), mlp(width, (), 1)

  def init(key):
    key_start, key_head, key_share, key_rounds = jax.random.split(key, 4)
    start = jax.random.normal(key_start, (num_hypotheses, width), jnp.float32)
    shared = {'start': start, 'head': readout.init(key_head), 'share': share.init(key_share)}
    return shared | {'rounds': rounds_of(networks, num_rounds, key_rounds)}

  def head_of(params, beliefs):
    return readout.apply(params['head'], beliefs)[..., 0]  # [M, D]

  def revised(params, one_round, beliefs, contrasts, weight, told):
    gaps = head_of(params, beliefs) @ contrasts.T  # [M, N]
    read = readings(gaps, contrasts)
    own = networks['own'].apply(one_round['own'], beliefs)[:, None]  # [M, 1, D, hidden]
    seen = jax.nn.gelu(own + networks['read'].apply(one_round['read'], read))
    seen = jnp.einsum('n,mndh->mdh', weight, seen) / (1 + weight.sum())
    everything = jnp.concatenate([beliefs, seen], -1)
    means = jnp.broadcast_to(everything.mean(1, keepdims=True), everything.shape)
    told = jnp.broadcast_to(told[None, None], (*beliefs.shape[:2], told.size))
    inputs = jnp.concatenate([everything, means, told], -1)
    return beliefs + networks['revise'].apply(one_round['revise'], inputs)

  def infer(params: Params, support: Choices, context: Context) -> Bank:
    weight = masked.fill(support.weight, support.mask)
    contrasts = neural_process.tokens(support.candidates.features, support)
    told = jnp.append(context, jnp.log1p(task.total_weight(support)))
    beliefs = jnp.broadcast_to(params['start'][:, None], (num_hypotheses, num_features, width))

    def step(beliefs, one_round):
      return revised(params, one_round, beliefs, contrasts, weight, told), None

    beliefs = jax.lax.scan(step, beliefs, params['rounds'])[0]
    return Bank(head_of(params, beliefs), share.apply(params['share'], beliefs.mean(1))[:, 0])

  return particle_bank.learner(
    init,
    lambda params, candidates: candidates.features,
    num_samples=num_samples,
    infer=infer,
  )


def rounds_of(networks: Mapping[str, Network], num_rounds: int, key: PRNGKey) -> Params:
  """Returns the parameters of the networks of every round, with a leading axis over rounds."""
  keys = jax.random.split(key, (len(networks), num_rounds))
  return {name: jax.vmap(one.init)(own) for (name, one), own in zip(networks.items(), keys)}


def readings(gaps: Float[Array, 'M N'], contrasts: Float[Array, 'N D']) -> Float[Array, 'M N D 3']:
  """Returns what a hypothesis reads of a comparison at each feature."""
  shape = *gaps.shape, contrasts.shape[1]
  parts = contrasts[None], gaps[..., None], jax.nn.sigmoid(-gaps)[..., None]
  return jnp.stack([jnp.broadcast_to(part, shape) for part in parts], -1)
