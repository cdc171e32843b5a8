import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metapers.networks.linear_mlp import linear_mlp
from metapers.networks.mlp import mlp


def test_parameters_are_plain_dicts_with_string_keys():
  params = mlp(3, (4,), 2).init(jax.random.key(0))
  assert set(params) == {'layers'}
  assert set(params['layers']) == {'0', '1'}
  assert type(params['layers']['0']) is dict


def test_apply_is_the_textbook_formula():
  network = mlp(3, (4,), 2)
  params = network.init(jax.random.key(0))
  x = jax.random.normal(jax.random.key(1), (5, 3))
  first, second = params['layers']['0'], params['layers']['1']
  hidden = jax.nn.gelu(x @ first['kernel'] + first['bias'][None])
  expected = hidden @ second['kernel'] + second['bias'][None]
  np.testing.assert_allclose(network.apply(params, x), expected, rtol=1e-5)


def test_parameters_are_data():
  network = linear_mlp(3, (4,), 2)
  batched = jax.vmap(network.init)(jax.random.split(jax.random.key(0), 6))
  assert jax.vmap(network.apply)(batched, jnp.ones((6, 5, 3))).shape == (6, 5, 2)


def test_linear_without_hidden_layers():
  network = linear_mlp(3, (), 2)
  params = network.init(jax.random.key(0))
  assert jax.tree.map(jnp.shape, params) == {'linear': {'kernel': (3, 2)}}
  np.testing.assert_allclose(network.apply(params, jnp.eye(3)), params['linear']['kernel'])


@pytest.mark.parametrize('build', [mlp, linear_mlp])
def test_widths_must_be_positive(build):
  with pytest.raises(ValueError, match='widths must be at least 1'):
    build(3, (0,), 2)
