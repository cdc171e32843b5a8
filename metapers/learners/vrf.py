"""Variational reward factorization: users and basis rewards are Gaussians of one space."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from metapers.core import choice_model, meta_learner
from metapers.core.meta_learner import MetaLearner
from metapers.core.types import Array, Float, Scalar
from metapers.learners import diagonal, neural_process, options
from metapers.learners.diagonal import Gaussian
from metapers.learners.utility import embed
from metapers.networks.linear_mlp import linear_mlp

LEAST = 1e-6  # standard deviation


def vrf(
  num_features: int,
  *,
  hidden: int = 128,
  width: int = 32,
  basis_hidden: Sequence[int] = (),
  rank: int = 10,
  kl_weight: float = 1e-3,
  attenuation: float = 1.0,
) -> MetaLearner:
  """Returns u(x) = w_u · φ(x), the weights being how near a user's Gaussian is to each basis's.

  An encoder reads the support and gives q_u = N(μ_u, diag σ_u²); basis reward φ_b has a learned
  N(μ_b, diag σ_b²) in the same space, and w_u = softmax_b(-W₂²(q_u, b)) with

    W₂²(q_u, b) = ‖μ_u - μ_b‖² + ‖σ_u - σ_b‖²,

  the squared Wasserstein distance. Trained on tasks by their query, with v_u the mean of σ_u²,

    loss = NLL / (1 + a v_u) + ½ log(1 + a v_u) + β KL(q_u ‖ N(0, I)),

  so that users of whom little is known count less. The user state is q_u.

  Args:
    num_features: D.
    hidden: width of the encoder's hidden layers.
    width: Z, and the width of the encoder's embedding of a candidate.
    basis_hidden: widths of φ's hidden layers; none for φ(x) = V x.
    rank: number of basis rewards.
    kl_weight: β.
    attenuation: a; 0 trains by the NLL itself.

  Raises:
    ValueError: for an option out of range.

  Reference:
    Lee et al. 2026, arXiv:2604.00997. Only the abstract is followed, which has the encoder, the
    weights by Wasserstein distance to Gaussian bases and a loss attenuated by variance; the form of
    each, the squared distance, φ's learned scale and the sizes are choices made here.
  """
  options.at_least_one(hidden=hidden, width=width, rank=rank)
  options.not_negative(kl_weight=kl_weight, attenuation=attenuation)
  encoder = neural_process.set_encoder(num_features, hidden, width, 2 * width)
  network = linear_mlp(num_features, basis_hidden, rank)

  def init(key):
    key_encoder, key_basis, key_places = jax.random.split(key, 3)
    places = jax.random.normal(key_places, (rank, width), jnp.float32)
    return {
      'encoder': encoder.init(key_encoder),
      'basis': network.init(key_basis),
      'places': places / jnp.sqrt(width),  # at N(0, I) everyone would have one basis, by luck
      'widths': jnp.zeros((rank, width), jnp.float32),
      'log_scale': jnp.zeros((), jnp.float32),
    }

  def adapt(params, support, context, key):
    del context, key
    mean, spread = jnp.split(encoder.apply(params['encoder'], support), 2)
    return of_raw(mean, spread)

  def score(params, user_state, candidates):
    bases = of_raw(params['places'], params['widths'])
    weights = jax.nn.softmax(-squared_distances(user_state, bases))
    return jnp.exp(params['log_scale']) * (embed(network, params['basis'], candidates) @ weights)

  def loss(params, episode, key):
    user_state = adapt(params, episode.support, episode.context, key)
    scores = score(params, user_state, episode.query.candidates)
    log_p = choice_model.log_probs(scores, episode.query.candidates.mask)
    metrics = meta_learner.query_metrics(log_p, episode.query)
    variance = attenuation * jnp.mean(jnp.exp(user_state.log_variance))
    penalty = kl_weight * diagonal.divergence(user_state, diagonal.standard(width))
    return attenuated(metrics['nll'], variance) + penalty, metrics

  return meta_learner.from_adapt_score(init, adapt, score, loss=loss)


def of_raw(mean: Float[Array, '*batch Z'], raw: Float[Array, '*batch Z']) -> Gaussian:
  """Returns the Gaussian whose standard deviations are softplus(raw), and never 0."""
  return Gaussian(mean, 2 * jnp.log(jax.nn.softplus(raw) + LEAST))


def squared_distances(user: Gaussian, bases: Gaussian) -> Float[Array, 'rank']:
  """Returns the squared Wasserstein-2 distance of one Gaussian [Z] to each of several [rank, Z]."""
  spreads = jnp.exp(0.5 * user.log_variance)[None] - jnp.exp(0.5 * bases.log_variance)
  return jnp.sum((user.mean[None] - bases.mean) ** 2 + spreads**2, -1)


def attenuated(nll: Scalar, variance: Scalar) -> Scalar:
  """Returns NLL / (1 + v) + ½ log(1 + v): least at 1 + v = 2 NLL, or at v = 0 where that is less.

  Args:
    nll: of one user's comparisons.
    variance: v, as predicted for the user; the logarithm keeps it from growing to pay for nothing.
  """
  return nll / (1 + variance) + 0.5 * jnp.log1p(variance)
