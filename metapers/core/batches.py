"""Functions of one user mapped over many, in chunks."""

import jax
import jax.numpy as jnp

from metapers.core.types import Array, Callable, Int, PyTree


def map_chunks(function: Callable[[Int[Array, '']], PyTree], count: int, chunk_size: int) -> PyTree:
  """Returns a function's values at 0..count-1, at most `chunk_size` at once, in equal chunks.

  `lax.map(batch_size=)` cannot return arrays without elements (a context of width 0), and compiles
  the function a second time for what is left over. One at a time is not vmapped: what the function
  does under a condition is done only where it holds.
  """
  if chunk_size == 1:
    return jax.lax.map(function, jnp.arange(count, dtype=jnp.int32))
  num_chunks = -(-count // chunk_size)
  size = -(-count // num_chunks)
  index = jnp.minimum(jnp.arange(num_chunks * size, dtype=jnp.int32), count - 1)
  mapped = jax.lax.map(jax.vmap(function), index.reshape(num_chunks, size))
  return jax.tree.map(lambda x: x.reshape(index.size, *x.shape[2:])[:count], mapped)


def sum_chunks(function: Callable[[Int[Array, '']], PyTree], count: int, chunk_size: int) -> PyTree:
  """Returns the sum of a function's values at 0..count-1, of which few are held at once."""
  num_chunks = -(-count // chunk_size)
  size = -(-count // num_chunks)
  index = jnp.arange(num_chunks * size, dtype=jnp.int32).reshape(num_chunks, size)

  def add(total, chunk):
    values = jax.vmap(function)(jnp.minimum(chunk, count - 1))
    is_real = chunk < count
    sums = jax.tree.map(lambda x: jnp.tensordot(is_real.astype(x.dtype), x, 1), values)
    return jax.tree.map(jnp.add, total, sums), None

  shapes = jax.eval_shape(function, index[0, 0])
  nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
  return jax.lax.scan(add, nothing, index)[0]
