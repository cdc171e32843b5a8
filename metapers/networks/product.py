"""The product of features and weights, so written that its gradient is quick on a CPU."""

import jax
import jax.numpy as jnp

from metapers.core.types import Any, Array

PAGE = 4096  # bytes: rows that lie whole pages apart share the same few places of a cache
LINE = 64  # bytes of a cache that are read together
FEW = 8  # columns, which take less time than copying X
MANY = 2**20  # weights, which take longer to transpose than their product gains by it


def of_features(x: Array, weights: Array, dimensions: Any, **options: Any) -> Array:
  """Returns X W, whose gradient XLA computes as (Gᵀ X)ᵀ, of rows that lie no whole pages apart.

  As Xᵀ G, which XLA makes of a plain product, and of a transposed one too unless it is kept from
  simplifying it, it takes longer, unless W has MANY weights; and either takes twice as long where a
  row of X is of whole pages, as 1,024 float32 are (docs/speed.md): X has a line of zeros more
  there, unless W has FEW columns.

  Args:
    x: [..., D] features.
    weights: [D, H].
    dimensions: of `jax.lax.dot_general`: the last axis of x and the first one of weights.
    options: of it.
  """
  (x_axes, _), batch = dimensions
  is_large = weights.size > MANY
  width = x.shape[-1] * x.dtype.itemsize
  if width % PAGE == 0 and weights.shape[1] > FEW:
    extra = LINE // x.dtype.itemsize
    x = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, extra)])
    weights = jnp.pad(weights, [(0, extra), (0, 0)])
  if is_large:
    return jax.lax.dot_general(x, weights, dimensions, **options)
  transposed = jax.lax.optimization_barrier(weights.T)
  return jax.lax.dot_general(x, transposed, ((x_axes, (1,)), batch), **options)
