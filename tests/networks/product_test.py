import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metapers.networks import linear_mlp, product
from metapers.networks.mlp import mlp

DIMENSIONS = ((2,), (0,)), ((), ())


def plain(weights, x):
  return jnp.sum(jnp.sin(x @ weights))


def ours(weights, x):
  return jnp.sum(jnp.sin(product.of_features(x, weights, DIMENSIONS)))


def drawn(*shape):
  return jax.random.normal(jax.random.key(len(shape)), shape)


@pytest.mark.parametrize(
  ('shape', 'rtol'),
  [((5, 3), 2e-5), ((1024, 9), 2e-4)],  # rows of 1,024 are whole pages, and sums of more numbers
)
@pytest.mark.parametrize(
  'way',
  [
    lambda f: f,
    jax.grad,
    lambda f: jax.grad(f, argnums=1),
    lambda f: lambda w, x: jax.jvp(lambda w: f(w, x), (w,), (jnp.cos(w),))[1],
    lambda f: jax.grad(lambda w, x: jnp.sum(jax.grad(f)(w, x) ** 2)),  # as MAML has it
  ],
)
@pytest.mark.parametrize('many', [product.MANY, 1])
def test_it_is_the_product_in_every_derivative(monkeypatch, many, way, shape, rtol):
  monkeypatch.setattr(product, 'MANY', many)
  weights, x = drawn(*shape) / shape[0] ** 0.5, drawn(2, 4, shape[0])
  np.testing.assert_allclose(
    way(ours)(weights, x), way(plain)(weights, x), rtol=rtol, atol=rtol / 20
  )


def test_users_may_have_weights_of_their_own():
  weights, x = drawn(7, 5, 3), drawn(7, 2, 4, 5)
  found, expected = (jax.jit(jax.vmap(jax.grad(f)))(weights, x) for f in (ours, plain))
  np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-6)


def program_of_gradient(network, num_features):
  params, x = network.init(jax.random.key(0)), jnp.ones((16, num_features))
  lowered = jax.jit(jax.grad(lambda p: jnp.sum(network.apply(p, x) ** 2))).lower(params)
  return lowered.compile().as_text() or ''


@pytest.mark.parametrize('network', [linear_mlp.linear_mlp(384, (), 5), mlp(384, (5,), 2)])
def test_the_gradient_of_the_first_layer_has_the_long_axis_last(network):
  """(G' X)': with X' G as XLA chooses, a step takes longer."""
  assert 'f32[5,384]' in program_of_gradient(network, 384)


def test_the_gradient_of_many_weights_is_not_transposed():
  assert 'f32[1100,1000]' not in program_of_gradient(mlp(1000, (1100,), 2), 1000)


def test_rows_of_whole_pages_are_longer_where_there_are_columns_to_multiply_with():
  assert 'f32[16,1040]' in program_of_gradient(mlp(1024, (9,), 2), 1024)
  assert 'f32[16,1040]' not in program_of_gradient(mlp(1024, (8,), 2), 1024)
  assert 'f32[16,1016]' not in program_of_gradient(mlp(1000, (9,), 2), 1000)
