"""One person, or many along a leading axis: in chunks, for one as for many, and who is meant."""

import jax
import jax.numpy as jnp
import numpy as np

from metapers.core.types import Any, Array, Bool, Callable, Int, PyTree


def map_chunks(function: Callable[[Int[Array, '']], PyTree], count: int, chunk_size: int) -> PyTree:
  """Maps a function over 0..count-1, at most `chunk_size` at once, in chunks of one size.

  `lax.map(batch_size=)` cannot return arrays without elements (a context of width 0), and compiles
  the function a second time for what is left over. One at a time is not vmapped: what the function
  does under a condition is done only where it holds.
  """
  if chunk_size == 1:
    return jax.lax.map(function, jnp.arange(count))
  num_chunks = -(-count // chunk_size)
  size = -(-count // num_chunks)
  index = jnp.minimum(jnp.arange(num_chunks * size), count - 1)
  mapped = jax.lax.map(jax.vmap(function), index.reshape(num_chunks, size))
  return jax.tree.map(lambda x: x.reshape(index.size, *x.shape[2:])[:count], mapped)


def for_one_or_many(function: Callable[[PyTree], PyTree], person: PyTree, many: int) -> PyTree:
  """Calls a function of people with a leading U, for one person (many = 0) without it."""
  if many:
    return function(person)
  return jax.tree.map(lambda x: x[0], function(jax.tree.map(lambda x: x[None], person)))


def some(wrong: Bool[np.ndarray, 'U']) -> str:
  """Names those of a batch for whom something is wrong, by index; a few if they are many."""
  index = np.flatnonzero(wrong)
  return ', '.join(map(str, index[:5])) + (', ...' if index.size > 5 else '')


def who(at: tuple[Any, ...]) -> str:
  """Begins a message of a person by their index in a batch: (u,), or () for one alone."""
  return f'person {at[0]}: ' if at else ''
