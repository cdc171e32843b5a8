"""A state worth damaging, and a workdir that holds it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

CONFIG = {'learner': 'any'}
# Reads of damaged files that tensorstore gives up come back to an event loop that orbax closed.
READS_DAMAGED_FILES = [
  pytest.mark.usefixtures('abandoned_reads'),
  pytest.mark.filterwarnings('ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning'),
]


class State(NamedTuple):
  step: jax.Array
  key: jax.Array
  params: dict
  nothing: tuple


def state(step):
  # Large enough for a data file of its own, so that there is something to damage.
  w = jax.random.normal(jax.random.key(step), (64, 64))
  params = {'w': w, 'half': w[0].astype(jnp.bfloat16), 'none': jnp.zeros((0,))}
  return State(jnp.asarray(step), jax.random.key(step), params, ())


def assert_same(one, other):
  assert jax.tree.structure(one) == jax.tree.structure(other)
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other)):
    assert a.dtype == b.dtype
    if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
      a, b = jax.random.key_data(a), jax.random.key_data(b)
    assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
