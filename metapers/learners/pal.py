"""Ideal points: users are mixtures of prototypes, and like what is near to their own point."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from metapers.core.meta_learner import MetaLearner
from metapers.core.types import Array, Float
from metapers.learners import options, simplex
from metapers.learners.utility import embed
from metapers.networks.linear_mlp import linear_mlp

LARGEST_SCALE = 100.0
DISTANCES = ('angle', 'squared')
TINY = 1e-12


def pal(
  num_features: int,
  num_users: int,
  *,
  hidden: Sequence[int] = (),
  width: int = 16,
  num_prototypes: int = 2,
  distance: str = 'angle',
  inner_steps: int = 50,
  inner_learning_rate: float = 0.5,
  prior_strength: float = 1.0,
) -> MetaLearner:
  """Returns PAL: u(x) = -s d(f(x), a_u), with the ideal point a_u = Σ_k w_uk p_k of K prototypes.

  f(x) = V x (+ MLP(x)) of `width` outputs, w_u is on the simplex, and s a learned scale, at most
  100. The distance d(f, a) is -cos(f, a) ('angle') or ‖f - a‖² ('squared'). f, s, the prototypes
  and a table of the known users' weights are fitted jointly; a new user's weights are refitted from
  the known users' mean, held to it by λ KL, exactly as in `low_rank`. The user state is w_u
  [num_prototypes].

  Args:
    num_features: D.
    num_users: U, the known users; a finite population is needed.
    hidden: widths of f's hidden layers.
    width: H, of the space of ideal points; 512 as published, of language models' embeddings.
    num_prototypes: K; 2 as published.
    distance: 'angle', as published, or 'squared'.
    inner_steps: steps of the refit.
    inner_learning_rate: see `low_rank`.
    prior_strength: λ > 0, in comparisons.

  Raises:
    ValueError: if there are no known users, or for an option out of range.

  Reference:
    Chen et al. 2024, arXiv:2406.08469 (ICLR 2025), its model A. There f is a perceptron of two
    layers on a language model, s starts at 1/0.07, and parts have learning rates of their own
    (projector 1e-4, prototypes and weights 5e-3, log scale 1e-1). Unlike there, s starts at 1, all
    is trained at one rate, and the refit is held to the known users' mean.
  """
  options.at_least_one(width=width, num_prototypes=num_prototypes)
  if distance not in DISTANCES:
    raise ValueError(f'distance must be one of {", ".join(DISTANCES)}, got {distance!r}')
  nearness = {'angle': cosine, 'squared': minus_squared_distance}[distance]
  network = linear_mlp(num_features, hidden, width)

  def init(key):
    key_projector, key_prototypes = jax.random.split(key)
    prototypes = jax.random.normal(key_prototypes, (num_prototypes, width), jnp.float32)
    return {
      'projector': network.init(key_projector),
      'prototypes': prototypes,
      'log_scale': jnp.zeros((), jnp.float32),
    }

  def scores(params, weights, candidates):
    points = embed(network, params['projector'], candidates)
    scale = jnp.minimum(jnp.exp(params['log_scale']), LARGEST_SCALE)
    return scale * nearness(points, weights @ params['prototypes'])

  return simplex.on_simplex(
    'pal',
    init,
    scores,
    num_users,
    num_prototypes,
    inner_steps=inner_steps,
    inner_learning_rate=inner_learning_rate,
    prior_strength=prior_strength,
  )


def cosine(points: Float[Array, 'N K H'], ideal: Float[Array, 'H']) -> Float[Array, 'N K']:
  """Returns cos(f(x), a); 0, with finite derivatives, where f(x) or a is 0."""
  return unit(points) @ unit(ideal)


def minus_squared_distance(
  points: Float[Array, 'N K H'], ideal: Float[Array, 'H']
) -> Float[Array, 'N K']:
  """Returns -‖f(x) - a‖²."""
  return -jnp.sum((points - ideal[None, None]) ** 2, -1)


def unit(x: Float[Array, '*batch H']) -> Float[Array, '*batch H']:
  """Returns x / ‖x‖; 0 at 0, where a masked candidate's embedding is."""
  return x * jax.lax.rsqrt(jnp.sum(x**2, -1, keepdims=True) + TINY)
