import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metapers.core import batches


@pytest.mark.parametrize('chunk_size', [1, 2, 3, 7, 50])
def test_chunks_of_any_size_give_what_one_call_gives(chunk_size):
  mapped = batches.map_chunks(lambda i: {'square': i**2, 'none': jnp.zeros(0)}, 7, chunk_size)
  np.testing.assert_array_equal(mapped['square'], np.arange(7) ** 2)
  assert mapped['none'].shape == (7, 0)


def test_a_function_of_many_serves_one():
  def double(people):
    return jax.tree.map(lambda x: 2 * x, people)

  one = batches.for_one_or_many(double, {'x': jnp.arange(3)}, 0)
  many = batches.for_one_or_many(double, {'x': jnp.arange(6).reshape(2, 3)}, 2)
  np.testing.assert_array_equal(one['x'], [0, 2, 4])
  np.testing.assert_array_equal(many['x'][0], one['x'])


def test_a_message_names_a_few_people_by_index():
  assert batches.some(np.array([False, True, True])) == '1, 2'
  assert batches.some(np.ones(9, bool)) == '0, 1, 2, 3, 4, ...'
  assert batches.who((3,)) == 'person 3: '
  assert batches.who(()) == ''
