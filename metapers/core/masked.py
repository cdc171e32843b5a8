"""Reductions that see only real entries; every reduction in metapers comes from here.

A masked entry may hold anything, NaN included: it is replaced before any arithmetic, so that it
reaches neither the value nor the gradient (`where` after the arithmetic would leak NaN backwards).
"""

import jax
import jax.numpy as jnp

from metapers.core.types import Array, Bool, Float, Int, PyTree


def fill(
  x: Float[Array, '*batch'], mask: Bool[Array, '*batch'], value: float = 0.0
) -> Float[Array, '*batch']:
  """Returns x with `value` in place of masked entries."""
  return jnp.where(mask, x, value)


def fill_features(features: PyTree, mask: Bool[Array, '*batch']) -> PyTree:
  """Returns the features with zeros of their own dtypes in place of masked candidates.

  Args:
    features: arrays [*batch, ...] of any dtype.
    mask: [*batch], True where the candidate is real.
  """

  def fill_leaf(x):
    trailing = (1,) * (x.ndim - mask.ndim)
    return jnp.where(mask.reshape(*mask.shape, *trailing), x, jnp.zeros((), x.dtype))

  return jax.tree.map(fill_leaf, features)


def count(mask: Bool[Array, '*batch'], axis=None, *, keepdims: bool = False) -> Int[Array, '...']:
  """Returns the number of real entries along `axis`, int32: quotients of it are float32."""
  return jnp.sum(mask, axis, dtype=jnp.int32, keepdims=keepdims)


def total(x: Float[Array, '*batch'], mask: Bool[Array, '*batch'], axis=None) -> Array:
  """Returns the sum over real entries along `axis`; 0 where there are none."""
  return jnp.sum(fill(x, mask), axis)


def mean(x: Float[Array, '*batch'], mask: Bool[Array, '*batch'], axis=None) -> Array:
  """Returns the mean over real entries along `axis`; 0 where there are none."""
  return total(x, mask, axis) / jnp.maximum(count(mask, axis), 1)


def weighted_mean(
  x: Float[Array, '*batch'], mask: Bool[Array, '*batch'], weight: Float[Array, '*batch'], axis=None
) -> Array:
  """Returns Σ w x / Σ w over real entries along `axis`; 0 where nothing weighs."""
  weight = fill(weight, mask)
  sum_of_weights = jnp.sum(weight, axis)
  return jnp.sum(fill(x, mask) * weight, axis) / or_one(sum_of_weights)


def or_one(total_weight: Float[Array, '*batch']) -> Float[Array, '*batch']:
  """Returns what a weighted sum is divided by: its total weight, or 1 where nothing weighs."""
  return jnp.where(total_weight > 0, total_weight, 1)


def largest(x: Float[Array, '*batch'], mask: Bool[Array, '*batch'], axis: int = -1) -> Array:
  """Returns the maximum over real entries along `axis`; the dtype's minimum without any.

  -inf counts as that minimum.
  """
  return jnp.max(fill(x, mask, float(jnp.finfo(x.dtype).min)), axis)


def argmax(
  x: Float[Array, '*batch'], mask: Bool[Array, '*batch'], axis: int = -1
) -> Int[Array, '...']:
  """Returns the index of the largest real entry along `axis`; 0 where there are none."""
  above = jnp.maximum(x, jnp.finfo(x.dtype).min)  # a real entry of -inf is above masked ones
  return jnp.argmax(fill(above, mask, -jnp.inf), axis).astype(jnp.int32)


def log_softmax(
  x: Float[Array, '*batch'], mask: Bool[Array, '*batch'], axis: int = -1
) -> Float[Array, '*batch']:
  """Returns log-probabilities over real entries; masked ones get the dtype's minimum.

  The minimum rather than -inf: exp of it is exactly 0, and sums and gradients stay finite. Rows
  without any real entry are all at the minimum.
  """
  smallest = float(jnp.finfo(x.dtype).min)
  logits = jax.nn.log_softmax(fill(x, mask, smallest), axis)
  return fill(logits, mask, smallest)
