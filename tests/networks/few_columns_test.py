import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metapers.networks import linear_mlp

DIMENSIONS = ((2,), (0,)), ((), ())


def plain(weights, x):
  return jnp.sum(jnp.sin(x @ weights))


def few(weights, x):
  return jnp.sum(jnp.sin(linear_mlp.few_columns(x, weights, DIMENSIONS)))


def drawn(*shape):
  return jax.random.normal(jax.random.key(len(shape)), shape)


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
def test_it_is_the_product_in_every_derivative(way):
  weights, x = drawn(5, 3), drawn(2, 4, 5)
  np.testing.assert_allclose(way(few)(weights, x), way(plain)(weights, x), rtol=2e-5, atol=1e-6)


def test_users_may_have_weights_of_their_own():
  weights, x = drawn(7, 5, 3), drawn(7, 2, 4, 5)
  found, expected = (jax.jit(jax.vmap(jax.grad(f)))(weights, x) for f in (few, plain))
  np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-6)


def test_the_gradient_of_a_linear_map_has_the_long_axis_last():
  """(G' X)': with X' G as XLA chooses, a step of `low_rank` takes longer."""
  network = linear_mlp.linear_mlp(384, (), 5)
  params = network.init(jax.random.key(0))
  x = jnp.ones((16, 384))
  program = jax.jit(jax.grad(lambda p: jnp.sum(network.apply(p, x) ** 2))).lower(params)
  assert 'f32[5,384]' in (program.compile().as_text() or '')
