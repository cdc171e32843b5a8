"""Functions of one user mapped over many, in chunks."""

import jax
import jax.numpy as jnp

from metapers.core.types import Array, Callable, Float, Int, PyTree


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


def sum_chunks(
  function: Callable[[Int[Array, 'C'], Float[Array, 'C']], PyTree], count: int, chunk_size: int
) -> PyTree:
  """Returns the sum over 0..count-1 of what a function sums over one chunk of them.

  Args:
    function: of indices [C] and their shares [C], 1, or 0 for one that fills up the last chunk;
      gives Σ share_i value_i. A chunk at once, so that it can be one large product.
    count: how many there are.
    chunk_size: C at most; the chunks are equal.
  """
  num_chunks = -(-count // chunk_size)
  size = -(-count // num_chunks)
  index = jnp.arange(num_chunks * size, dtype=jnp.int32).reshape(num_chunks, size)

  def of_chunk(chunk):
    return function(jnp.minimum(chunk, count - 1), (chunk < count).astype(jnp.float32))

  def add(total, chunk):
    return jax.tree.map(jnp.add, total, of_chunk(chunk)), None

  shapes = jax.eval_shape(of_chunk, index[0])
  nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
  return jax.lax.scan(add, nothing, index)[0]
