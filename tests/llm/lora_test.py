import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metapers.llm import decoder, layers, lora

CONFIG = layers.Config(64, 16, 24, 2, 4, 2, 6)


def start(**options):
  model = decoder.decoder(CONFIG)
  params = model.init(jax.random.key(0))
  tokens = jax.random.randint(jax.random.key(1), (2, 7), 0, 64)

  def hidden(params, changes=None):
    mask = jnp.ones_like(tokens, bool)
    return model.hidden(params, model.embed(params, tokens), mask, lora=changes)

  return jax.jit(hidden), params, lora.lora(CONFIG, **options)


def moved(changes):
  return jax.tree.map(lambda x: x + 0.05 * jnp.arange(x.size).reshape(x.shape) / x.size, changes)


def test_a_start_changes_nothing_and_has_a_gradient():
  hidden, params, adapter = start(rank=3)
  changes = adapter.init(jax.random.key(2))
  np.testing.assert_array_equal(hidden(params, adapter.scaled(changes)), hidden(params))
  gradient = jax.grad(lambda x: hidden(params, adapter.scaled(x)).sum())(changes)
  assert all(np.abs(gradient[name]['b']).max() > 0 for name in layers.PROJECTIONS)


@pytest.mark.parametrize('projections', [('query', 'value'), layers.PROJECTIONS])
def test_beside_the_weights_is_as_in_them(projections):
  hidden, params, adapter = start(rank=3, scale=2.0, projections=projections)
  changes = moved(adapter.init(jax.random.key(2)))
  assert set(changes) == set(projections)
  beside = hidden(params, adapter.scaled(changes))
  np.testing.assert_allclose(hidden(adapter.merge(params, changes)), beside, rtol=0, atol=1e-5)
  assert np.abs(beside - hidden(params)).max() > 0.01


def test_the_scale_multiplies_the_product():
  _, params, adapter = start(rank=2, scale=5.0, projections=('up',))
  changes = moved(adapter.init(jax.random.key(2)))
  merged = adapter.merge(params, changes)['layers']['up']['kernel']
  expected = 5 * np.einsum('nir,nro->nio', changes['up']['a'], changes['up']['b'])
  np.testing.assert_allclose(merged - params['layers']['up']['kernel'], expected, atol=1e-6)


def test_merging_keeps_the_dtype():
  _, params, adapter = start(rank=2)
  rounded = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
  merged = adapter.merge(rounded, adapter.init(jax.random.key(2)))
  assert {x.dtype for x in jax.tree.leaves(merged)} == {jnp.dtype('bfloat16')}


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'rank': 0}, 'rank must be at least 1, got 0'),
    ({'projections': ('query', 'q_proj')}, r"projections must be some of .*'q_proj'"),
    ({'projections': ()}, 'projections must be some of'),
  ],
)
def test_options_are_checked(options, message):
  with pytest.raises(ValueError, match=message):
    lora.lora(CONFIG, **options)
