import jax.numpy as jnp
import numpy as np
import pytest

from metapers.core import masked

SMALLEST = float(jnp.finfo(jnp.float32).min)


@pytest.mark.parametrize(
  ('x', 'mask', 'index', 'largest'),
  [
    ([5.0, -np.inf], [False, True], 1, SMALLEST),
    ([5.0, -np.inf, -3.0], [False, True, True], 2, -3.0),
    ([np.nan, -np.inf, -np.inf], [False, True, True], 1, SMALLEST),
    ([np.inf, 1.0, 1.0], [False, True, True], 1, 1.0),
    ([5.0, 6.0], [False, False], 0, SMALLEST),
  ],
)
def test_the_largest_entry_is_a_real_one_whatever_it_is(x, mask, index, largest):
  x, mask = jnp.asarray(x, jnp.float32), jnp.asarray(mask)
  assert masked.argmax(x, mask) == index
  assert masked.largest(x, mask) == largest
