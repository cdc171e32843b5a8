import jax.numpy as jnp
import numpy as np
import pytest

from metapers.core import batches


@pytest.mark.parametrize('chunk_size', [1, 2, 3, 7, 50])
def test_chunks_of_any_size_give_what_one_call_gives(chunk_size):
  mapped = batches.map_chunks(lambda i: {'square': i**2, 'none': jnp.zeros(0)}, 7, chunk_size)
  np.testing.assert_array_equal(mapped['square'], np.arange(7) ** 2)
  assert mapped['none'].shape == (7, 0)


@pytest.mark.parametrize('chunk_size', [1, 4, 7, 64])
def test_sums_over_chunks_are_sums(chunk_size):
  values = jnp.arange(14.0).reshape(7, 2)
  found = batches.sum_chunks(lambda i, share: {'row': share @ values[i]}, 7, chunk_size)
  assert found['row'].tolist() == values.sum(0).tolist()
