"""Gaussians of independent coordinates, by which users are described."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from metapers.core.types import Array, Float, Scalar


class Gaussian(NamedTuple):
  """N(mean, diag exp(log_variance)), each [Z], or [*batch, Z] of several."""

  mean: Float[Array, '*batch Z']
  log_variance: Float[Array, '*batch Z']


def standard(width: int) -> Gaussian:
  """Returns N(0, I)."""
  return Gaussian(jnp.zeros(width, jnp.float32), jnp.zeros(width, jnp.float32))


def draw(of: Gaussian, key: Array, num_samples: int) -> Float[Array, 'S Z']:
  """Returns draws, differentiable in the moments."""
  noise = jax.random.normal(key, (num_samples, of.mean.size), jnp.float32)
  return of.mean[None] + jnp.exp(0.5 * of.log_variance)[None] * noise


def divergence(q: Gaussian, p: Gaussian) -> Scalar:
  """Returns KL(q ‖ p) = ½ Σ [l_p - l_q - 1 + (exp(l_q) + (μ_q - μ_p)²) / exp(l_p)], in nats."""
  ratio = q.log_variance - p.log_variance
  distance = (q.mean - p.mean) ** 2 * jnp.exp(-p.log_variance)
  return 0.5 * jnp.sum(jnp.exp(ratio) - ratio - 1 + distance)
