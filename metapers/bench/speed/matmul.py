"""The most that JAX's own product of two large matrices reaches here: what fractions are of."""

import jax
import jax.numpy as jnp

from metapers.bench.speed.implementation import Step
from metapers.bench.speed.workload import Case, Data

SIZE = 2048
OPERATIONS = 2 * SIZE**3


def prepare(case: Case, data: Data) -> Step:
  """Returns one product of `SIZE` rows and columns, in float32."""
  del case, data
  left, right = jax.random.normal(jax.random.key(0), (2, SIZE, SIZE), jnp.float32)
  multiply = jax.jit(jnp.matmul)

  def step():
    jax.block_until_ready(multiply(left, right))
    return 0.0, {}

  return step
