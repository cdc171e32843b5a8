"""Latent user variables read by attention: z ~ q(z | comparisons), and a reward of (x, z)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from metapers.core import choice_model, meta_learner, task
from metapers.core.meta_learner import MetaLearner
from metapers.core.task import Candidates
from metapers.core.types import Array, Float, Params, Scalar
from metapers.learners import diagonal, options
from metapers.learners.diagonal import Gaussian
from metapers.learners.pair_encoder import latent_encoder
from metapers.learners.utility import utilities, utility_network
from metapers.networks.attention import Sizes
from metapers.networks.network import Network


class Latent(NamedTuple):
  """What is kept of a user: the mean [Z] of q, and S draws [S, Z] of it."""

  mean: Float[Array, 'Z']
  draws: Float[Array, 'S Z']


def np_btl(
  num_features: int,
  *,
  hidden: int = 128,
  width: int = 32,
  num_layers: int = 1,
  num_heads: int = 4,
  kl_weight: float = 0.0,
  odd: bool = False,
) -> MetaLearner:
  """Returns the neural process of Bradley-Terry rewards: z = encoder(support), u(x) = MLP([x, z]).

  With kl_weight β above 0 the encoder gives q(z | ·), Gaussian, and in place of NLL(query | z)

    loss = NLL(query | z) + β KL(q(z | support, query) ‖ q(z | support)),

  z drawn of the former, NLL the mean of the query's comparisons and KL in nats. The user state is
  z, or the mean of q(z | support), [Z].

  Args:
    num_features: D.
    hidden: of the perceptrons; 256 as published.
    width: Z, and the width of tokens.
    num_layers: blocks in which comparisons attend to each other.
    num_heads: of each attention; must divide Z.
    kl_weight: β; 0, as in the released configs, for a deterministic z.
    odd: whether a comparison is the difference chosen - others, or both side by side.

  Raises:
    ValueError: for an option out of range.

  Reference:
    Kobalczyk et al. 2024, arXiv:2412.13998. Unlike the paper, candidates are embedded by a small
    network, labels are told by the order (chosen first, the mean of the others second), attention
    stands in pre-normalised residual blocks, and a learned neutral token stands beside the
    comparisons.
  """
  options.not_negative(kl_weight=kl_weight)
  sizes = Sizes(width, hidden, num_layers, num_heads)
  encoder = latent_encoder(num_features, sizes, 2 * width if kl_weight else width, odd=odd)
  decoder = utility_network(num_features + width, (hidden, hidden))

  def init(key):
    return initial(encoder, decoder, key)

  def adapt(params, support, context, key):
    del context, key
    return encoder.apply(params['encoder'], support)[:width]

  def score(params, user_state, candidates):
    return decode(decoder, params, user_state, candidates)

  def loss(params, episode, key):
    everything = task.concat(episode.support, episode.query)
    prior, posterior = (
      Gaussian(*jnp.split(encoder.apply(params['encoder'], given), 2))
      for given in (episode.support, everything)
    )
    scores = score(params, diagonal.draw(posterior, key, 1)[0], episode.query.candidates)
    log_p = choice_model.log_probs(scores, episode.query.candidates.mask)
    metrics = meta_learner.query_metrics(log_p, episode.query)
    return metrics['nll'] + kl_weight * diagonal.divergence(posterior, prior), metrics

  return meta_learner.from_adapt_score(init, adapt, score, loss=loss if kl_weight else None)


def vpl(
  num_features: int,
  *,
  hidden: int = 128,
  width: int = 32,
  num_layers: int = 1,
  num_heads: int = 1,
  kl_weight: float = 1e-4,
  swap_weight: float = 0.0,
  swap_spread: float = 1.0,
  num_samples: int = 8,
  odd: bool = False,
) -> MetaLearner:
  """Returns variational preference learning: z ~ q(z | support), u(x) = MLP([x, √Z z/‖z‖]).

    loss = NLL(query | z) + β KL(q ‖ N(0, I)) + γ [½ (1 + cos(μ, μ')) + ½ η (1 - cos(l, l'))],

  with q = N(μ, diag exp(l)), both in (-1, 1), z one draw of it, and μ', l' those of the support
  with all labels swapped. Predictions are those of z = μ; draws are of q. The user state is
  `Latent`.

  Args:
    num_features: D.
    hidden: of the perceptrons; 512 as published.
    width: Z, and the width of tokens; 512 as published.
    num_layers: blocks in which comparisons attend to each other.
    num_heads: of each attention; must divide Z.
    kl_weight: β; 0 to 1e-4 as published.
    swap_weight: γ; see `spl`.
    swap_spread: η.
    num_samples: S draws that are kept.
    odd: whether a comparison is the difference chosen - others, or both side by side.

  Raises:
    ValueError: for an option out of range.

  Reference:
    Poddar et al. 2024, arXiv:2408.10075. Unlike the paper, μ and l are bounded by tanh, whose
    gradient does not vanish, and not clipped; candidates are embedded by a small network; attention
    stands in a pre-normalised residual block, beside a learned neutral token; β is not annealed.
    Unlike the released code, z reaches the reward, its noise is not scaled by 1e-3, and KL has ½.
  """
  options.at_least_one(num_samples=num_samples)
  options.not_negative(kl_weight=kl_weight, swap_weight=swap_weight, swap_spread=swap_spread)
  sizes = Sizes(width, hidden, num_layers, num_heads)
  encoder = latent_encoder(num_features, sizes, 2 * width, odd=odd)
  decoder = utility_network(num_features + width, (hidden, hidden))

  def init(key):
    return initial(encoder, decoder, key)

  def infer(params, support, swapped=False):
    outputs = encoder.apply(params['encoder'], support, swapped)
    return Gaussian(*jnp.split(jnp.tanh(outputs), 2))

  def adapt(params, support, context, key):
    del context
    inferred = infer(params, support)
    return Latent(inferred.mean, diagonal.draw(inferred, key, num_samples))

  def score_of(params, z, candidates):
    return decode(decoder, params, scaled(z), candidates)

  def score(params, user_state, candidates):
    return score_of(params, user_state.mean, candidates)

  def sample(params, user_state, candidates):
    return jax.vmap(score_of, (None, 0, None))(params, user_state.draws, candidates)

  def loss(params, episode, key):
    inferred = infer(params, episode.support)
    scores = score_of(params, diagonal.draw(inferred, key, 1)[0], episode.query.candidates)
    log_p = choice_model.log_probs(scores, episode.query.candidates.mask)
    metrics = meta_learner.query_metrics(log_p, episode.query)
    total = metrics['nll'] + kl_weight * diagonal.divergence(inferred, diagonal.standard(width))
    if swap_weight:
      swapped = infer(params, episode.support, swapped=True)
      total += swap_weight * swap_guidance(inferred, swapped, swap_spread)
    return total, metrics

  return meta_learner.from_adapt_score(init, adapt, score, loss=loss, sample=sample)


def spl(
  num_features: int,
  *,
  hidden: int = 128,
  width: int = 32,
  num_layers: int = 1,
  num_heads: int = 1,
  kl_weight: float = 3e-6,
  swap_weight: float = 1e-5,
  swap_spread: float = 1.0,
  num_samples: int = 8,
) -> MetaLearner:
  """Returns `vpl` with swap-guided training: swapped labels should give -μ, and the same spread.

  Args:
    num_features: D.
    hidden: as in `vpl`.
    width: Z; 1,024 as published.
    num_layers: as in `vpl`.
    num_heads: as in `vpl`.
    kl_weight: β.
    swap_weight: γ.
    swap_spread: η.
    num_samples: S draws that are kept.

  Raises:
    ValueError: for an option out of range.

  Reference:
    Kim and Kim 2026, swap-guided preference learning (ICLR). Unlike the paper, guidance is all that
    is added: there is neither a flow of z nor a decoder modulated by features. Unlike the released
    code, gradients pass through the swapped side too.
  """
  options.positive(swap_weight=swap_weight)
  return vpl(
    num_features,
    hidden=hidden,
    width=width,
    num_layers=num_layers,
    num_heads=num_heads,
    kl_weight=kl_weight,
    swap_weight=swap_weight,
    swap_spread=swap_spread,
    num_samples=num_samples,
  )


def initial(encoder: Network, decoder: Network, key: Array) -> Params:
  """Returns new parameters of an encoder and a decoder."""
  key_encoder, key_decoder = jax.random.split(key)
  return {'encoder': encoder.init(key_encoder), 'decoder': decoder.init(key_decoder)}


def decode(
  decoder: Network, params: Params, z: Float[Array, 'Z'], candidates: Candidates
) -> Float[Array, 'N K']:
  """Returns u(x) of [x, z], for each candidate."""
  features = candidates.features
  beside = jnp.broadcast_to(z, (*features.shape[:-1], z.size))
  joined = candidates._replace(features=jnp.concatenate([features, beside], -1))
  return utilities(decoder, params['decoder'], joined)


def swap_guidance(plain: Gaussian, swapped: Gaussian, spread: float) -> Scalar:
  """Returns ½ (1 + cos(μ, μ')) + ½ spread (1 - cos(l, l')): 0 where swapping gives -μ and the l."""
  opposite = 0.5 * (1 + cosine(plain.mean, swapped.mean))
  return opposite + 0.5 * spread * (1 - cosine(plain.log_variance, swapped.log_variance))


def cosine(a: Float[Array, 'Z'], b: Float[Array, 'Z']) -> Scalar:
  """Returns the cosine of the angle of two vectors, finite at 0."""
  return scaled(a) @ scaled(b) / a.size


def scaled(z: Float[Array, 'Z']) -> Float[Array, 'Z']:
  """Returns √Z z / ‖z‖, finite at 0."""
  return z * jax.lax.rsqrt(jnp.mean(z**2) + 1e-6)
