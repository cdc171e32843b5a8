import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from metapers.networks import attention
from metapers.networks.network import from_module

SIZES = attention.Sizes(width=4, hidden=6, num_layers=1, num_heads=2)


@pytest.fixture(scope='module', autouse=True)
def float64():
  with jax.enable_x64(True):
    yield


def network(build, seed=0):
  made = from_module(build)
  params = jax.tree.map(lambda x: np.asarray(x, np.float64), made.init(jax.random.key(seed)))
  rng = np.random.default_rng(seed)  # biases start at 0 and scales at 1: move them
  return jax.jit(made.apply), jax.tree.map(lambda x: x + 0.3 * rng.normal(size=x.shape), params)


def linear(params, x):
  return x @ params['kernel'] + params['bias']


def textbook(params, x, given, num_heads):
  query, key, value = (
    linear(params['query'], x),
    *(linear(params[name], given) for name in ('key', 'value')),
  )
  size = x.shape[-1] // num_heads
  heads = []
  for h in range(num_heads):
    part = slice(h * size, (h + 1) * size)
    p = special.softmax(query[:, part] @ key[:, part].T / np.sqrt(size), -1)
    heads.append(p @ value[:, part])
  return linear(params['out'], np.concatenate(heads, -1))


def test_attention_is_the_textbook_formula():
  apply, params = network(lambda rngs: attention.Attention(4, 2, rngs=rngs))
  x, given = (np.random.default_rng(n).normal(size=(n, 4)) for n in (3, 5))
  found = apply(params, x, given, np.ones(5))
  np.testing.assert_allclose(found, textbook(params, x, given, 2), rtol=1e-12)


def test_a_weight_is_a_number_of_copies_and_weight_0_none():
  apply, params = network(lambda rngs: attention.Attention(4, 2, rngs=rngs))
  x, given = (np.random.default_rng(n).normal(size=(n, 4)) for n in (3, 4))
  found = apply(params, x, given, np.array([3.0, 1.0, 0.0, 2.0]))
  copies = given[[0, 0, 0, 1, 3, 3]]
  np.testing.assert_allclose(found, textbook(params, x, copies, 2), rtol=1e-12)


def test_nothing_that_weighs_gives_the_bias_and_a_finite_gradient():
  apply, params = network(lambda rngs: attention.Attention(4, 2, rngs=rngs))
  x, given = (np.random.default_rng(n).normal(size=(n, 4)) for n in (3, 4))
  found = apply(params, x, given, np.zeros(4))
  np.testing.assert_allclose(found, np.tile(params['out']['bias'], (3, 1)))
  gradient = jax.grad(lambda w: apply(params, x, given, w).sum())(jnp.zeros(4))
  assert np.isfinite(gradient).all()


def normalised(params, x):
  centred = x - x.mean(-1, keepdims=True)
  scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
  return scaled * params['scale'] + params['bias']


def test_a_block_normalises_first_and_adds():
  apply, params = network(lambda rngs: attention.Block(4, 6, 2, rngs=rngs))
  x, given = (np.random.default_rng(n).normal(size=(n, 4)) for n in (3, 5))
  y = x + textbook(
    params['attention'],
    normalised(params['norm_queries'], x),
    normalised(params['norm_given'], given),
    2,
  )
  first, last = (params['mlp']['layers'][n] for n in ('0', '1'))
  inner = np.asarray(jax.nn.gelu(linear(first, normalised(params['norm'], y))))
  expected = y + linear(last, inner)
  np.testing.assert_allclose(apply(params, x, given, np.ones(5)), expected, rtol=1e-9)


@pytest.mark.parametrize('num_slots', [0, 3])
def test_a_set_transformer_sees_a_weighted_set(num_slots):
  apply, params = network(lambda rngs: attention.SetTransformer(5, SIZES, num_slots, rngs=rngs))
  tokens = np.random.default_rng(1).normal(size=(4, 5))
  found = apply(params, tokens, np.array([1.0, 2.0, 0.0, 1.0]))
  copies = apply(params, tokens[[3, 1, 0, 1]], np.ones(4))
  assert found.shape == ((3, 4) if num_slots else (4,))
  np.testing.assert_allclose(found, copies, rtol=1e-9)
  assert not np.allclose(found, apply(params, tokens, np.array([1.0, 1.0, 0.0, 1.0])))
  nothing = [apply(params, scale * tokens, np.zeros(4)) for scale in (1, 2)]
  np.testing.assert_allclose(*nothing)  # the neutral token alone


def test_queries_of_cross_attention_do_not_see_each_other():
  apply, params = network(lambda rngs: attention.CrossAttention(SIZES, rngs=rngs))
  x, given = np.random.default_rng(0).normal(size=(2, 3, 4)), np.eye(4)
  found = apply(params, x, given)
  alone = [[apply(params, query, given) for query in row] for row in x]
  np.testing.assert_allclose(found, np.array(alone), rtol=1e-9)
  assert not np.allclose(found, apply(params, x, 2 * given - 1))
  assert apply(params, x[:0], given).shape == (0, 3, 4)  # users without slates show no candidate


@pytest.mark.parametrize(
  ('sizes', 'message'),
  [
    (SIZES._replace(hidden=0), 'sizes must be at least 1'),
    (SIZES._replace(num_layers=-1), 'num_layers at least 0'),
    (SIZES._replace(num_heads=3), 'num_heads must divide width, got 3 heads of width 4'),
  ],
)
def test_sizes_are_checked(sizes, message):
  for build in (
    lambda: attention.set_transformer(5, sizes),
    lambda: attention.cross_attention(sizes),
  ):
    with pytest.raises(ValueError, match=message):
      build()
  with pytest.raises(ValueError, match='num_slots must be at least 0, got -1'):
    attention.set_transformer(5, SIZES, -1)


def test_parameters_are_plain_float32_dicts():
  params = attention.set_transformer(5, SIZES, 2).init(jax.random.key(0))
  assert params['neutral'].shape == (1, 4) and params['slots'].shape == (2, 4)
  assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype('float32')}
  assert 'slots' not in attention.set_transformer(5, SIZES).init(jax.random.key(0))
