import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metapers.learners import inner_loop, row_space
from metapers.networks import linear_mlp

# Hidden layers and features: more than rows, and fewer; the last keep a hidden layer as rows, too.
SIZES = [((), 4), ((3,), 4), ((3, 2), 40), ((40, 36), 4), ((40, 36, 38), 50)]


def problem(hidden, num_features):
  keys = jax.random.split(jax.random.key(0), 4)
  network = linear_mlp.linear_mlp(num_features, hidden, 1)
  rows, others = (jax.random.normal(key, (n, num_features)) for key, n in zip(keys, (6, 9)))
  slopes = jax.random.normal(keys[2], (6,))
  slopes = slopes - slopes.mean()  # as of choices: utilities count by their differences

  def loss(utilities):
    return jnp.sum(jnp.tanh(utilities[::2, 0] - utilities[1::2, 0]) * slopes[::2])

  return network, network.init(keys[3]), rows, others, loss


def both_ways(hidden, num_features, **options):
  network, params, rows, others, loss = problem(hidden, num_features)
  stages = linear_mlp.stages(num_features, hidden, 1)

  def plain(params, rate):
    theta = inner_loop.descend(lambda p: loss(network.apply(p, rows)), params, rate, num_steps=3)
    return network.apply(theta, others), theta

  def by_rows(params, rate):
    found = row_space.descend(loss, stages, params, rows, rate, num_steps=3, **options)
    return row_space.outputs(stages, found, others), row_space.parameters(stages, found)

  return params, plain, by_rows


def differences(outputs):
  return outputs - outputs[:1]


@pytest.mark.parametrize(('hidden', 'num_features'), SIZES)
def test_descent_by_rows_is_descent_on_weights(hidden, num_features):
  params, plain, by_rows = both_ways(hidden, num_features)
  (expected, weights), (found, same_weights) = plain(params, 0.1), by_rows(params, 0.1)
  np.testing.assert_allclose(differences(found), differences(expected), rtol=1e-4, atol=1e-5)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), same_weights, weights
  )


def test_layers_are_told_by_number_and_not_by_the_order_of_names():
  hidden = (2,) * 10  # of whose names '10' stands before '2' once a program has returned them
  network, params, rows, _, _ = problem(hidden, 4)
  stages = linear_mlp.stages(4, hidden, 1)

  def by_layers(params):
    layers = zip(stages.layers, stages.divide(params), strict=True)
    return stages.run([lambda x, f=f, own=own: f(own, x) for f, own in layers], rows)

  np.testing.assert_allclose(jax.jit(by_layers)(params), network.apply(params, rows), rtol=1e-6)


@pytest.mark.parametrize(('hidden', 'num_features'), SIZES)
def test_gradients_through_both_descents_agree(hidden, num_features):
  params, plain, by_rows = both_ways(hidden, num_features)
  gradients = [
    jax.grad(lambda p, rate, f=f: jnp.sum(jnp.sin(differences(f(p, rate)[0]))), (0, 1))(
      params, jnp.float32(0.1)
    )
    for f in (plain, by_rows)
  ]
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), gradients[1], gradients[0]
  )


def test_the_first_order_of_a_layer_kept_as_rows_is_the_identity():
  params, _, by_rows = both_ways((36, 36), 4, first_order=True)
  entry = jax.grad(lambda p: by_rows(p, 0.1)[1]['mlp']['layers']['1']['kernel'][2, 3])(params)
  expected = np.zeros((36, 36))
  expected[2, 3] = 1
  np.testing.assert_allclose(entry['mlp']['layers']['1']['kernel'], expected, atol=1e-6)
  assert not entry['mlp']['layers']['0']['kernel'].any()


def test_the_first_order_is_that_of_constant_gradients():
  params, _, by_rows = both_ways((3,), 4, first_order=True)
  jacobian = jax.jacobian(lambda p: by_rows(p, 0.1)[1]['linear']['kernel'])(params)
  np.testing.assert_allclose(jacobian['linear']['kernel'][:, 0, :, 0], np.eye(4), atol=1e-6)
  assert not jacobian['mlp']['layers']['0']['kernel'].any()


@pytest.mark.parametrize(('hidden', 'kept'), [((35, 36), set()), ((36, 36), {1})])
def test_wide_layers_are_kept_as_the_rows_of_all_steps(hidden, kept):
  _, params, rows, _, loss = problem(hidden, 4)  # 6 rows in each of 3 steps
  stages = linear_mlp.stages(4, hidden, 1)
  moved = row_space.descend(loss, stages, params, rows, 0.1, num_steps=3).moved
  assert set(moved.rows) == set(moved.moves) == kept
  assert set(moved.weights) == {1, 2} - kept
  assert all(np.any(np.asarray(each) != 0) for each in (moved.first, *moved.moves.values()))


@pytest.mark.parametrize('hidden', [(3,), (40, 36)])
def test_a_descent_that_is_not_finite_leaves_the_parameters(hidden):
  params, _, by_rows = both_ways(hidden, 4)
  jax.tree.map(np.testing.assert_array_equal, by_rows(params, 1e38)[1], params)


@pytest.mark.parametrize('num_features', [1, 500])
def test_products_do_not_depend_on_their_order(num_features):
  keys = jax.random.split(jax.random.key(1), 3)
  left, right = (jax.random.normal(key, (5, num_features)) for key in keys[:2])
  moves = jax.random.normal(keys[2], (5, 2))
  expected = (np.asarray(left) @ np.asarray(right).T + 1) @ np.asarray(moves)
  np.testing.assert_allclose(row_space.products(left, right)(moves), expected, rtol=1e-4, atol=1e-3)
