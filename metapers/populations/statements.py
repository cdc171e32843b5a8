"""What simulated users say of themselves: which reward model has most of their weight."""

import jax
import jax.numpy as jnp
import numpy as np

from metapers.core.types import Float, Int

SILENT = -1


def draw(
  rng: np.random.Generator, weights: Float[np.ndarray, 'U B'], rate: float
) -> Int[np.ndarray, 'U']:
  """Returns what each user states, which is true of them; SILENT of those who say nothing.

  Args:
    rng: who speaks.
    weights: of the users.
    rate: how many of them speak.
  """
  speaks = rng.random(len(weights)) < rate
  return np.where(speaks, weights.argmax(-1), SILENT).astype(np.int32)


def context_of(statement: Int[jax.Array, ''], num_models: int) -> Float[jax.Array, 'C']:
  """Returns a statement as a context: one-hot of the reward model, and whether anything is said."""
  named = jax.nn.one_hot(statement, num_models, dtype=jnp.float32)  # zeros of SILENT
  return jnp.append(named, (statement != SILENT).astype(jnp.float32))


def read(context: Float[jax.Array, '*T C']) -> Int[jax.Array, '*T']:
  """Returns the statements of contexts that `context_of` made."""
  named = jnp.argmax(context[..., :-1], -1).astype(jnp.int32)
  return jnp.where(context[..., -1] > 0, named, SILENT)
