import jax
import jax.numpy as jnp
import numpy as np
import pytest
from saved_states import state

from metapers.io import leaves


def test_names_are_dotted_paths_from_a_root():
  tree = {'base': {'w': 1}, 'layers': [2, 3]}
  assert leaves.by_path(tree, 'params') == {
    'params.base.w': 1, 'params.layers.0': 2, 'params.layers.1': 3,
  }  # fmt: skip
  assert leaves.by_path(5) == {'': 5} and leaves.by_path(5, 'arrays') == {'arrays': 5}


def test_two_arrays_of_one_path_are_refused():
  with pytest.raises(ValueError, match=r'one path among a\.b; use keys without dots'):
    leaves.by_path({'a.b': 1, 'a': {'b': 2}})


def test_a_description_names_type_shape_and_the_whole_range_of_one_device():
  described = leaves.describe(leaves.named_on_devices(state(2)))
  assert described['params.w']['dtype'] == 'float32' and described['params.w']['shape'] == [64, 64]
  ranges = {name: list(each['ranges']) for name, each in described.items()}
  assert ranges == {
    'step': [''], 'key': ['0:2'], 'params.w': ['0:64,0:64'], 'params.half': ['0:64'],
  }  # fmt: skip


@pytest.mark.parametrize('name', ['step', 'key', 'params.w', 'params.half'])
def test_any_changed_bit_is_named(name):
  arrays = leaves.named_on_devices(state(2))
  described = leaves.describe(arrays)
  assert leaves.altered(arrays, described) == []
  content = np.array(arrays[name])
  content.reshape(-1).view(np.uint8)[-1] ^= 1
  assert leaves.altered({**arrays, name: jnp.asarray(content)}, described) == [name]


def test_ranges_that_others_wrote_are_verified_on_the_whole_array():
  array = jnp.arange(12.0).reshape(4, 3)
  parts = {'0:2,0:3': array[:2], '2:4,0:3': array[2:]}
  ranges = {
    where: leaves.describe({'x': part})['x']['ranges']['0:2,0:3'] for where, part in parts.items()
  }
  described = {'x': {'dtype': 'float32', 'shape': [4, 3], 'ranges': ranges}}
  assert leaves.altered({'x': array}, described) == []
  assert leaves.altered({'x': array.at[3, 2].add(1)}, described) == ['x']


def test_what_comes_back_under_x64_has_the_same_bits():
  with jax.enable_x64(True):
    tree = {'w': jnp.arange(3.0) / 7, 'n': jnp.arange(2)}
    arrays = leaves.named_on_devices(tree)
    assert arrays['w'].dtype == jnp.float64 and arrays['n'].dtype == jnp.int64
    assert (
      leaves.altered(leaves.named_on_devices(leaves.like(tree, arrays)), leaves.describe(arrays))
      == []
    )
