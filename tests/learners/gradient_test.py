import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metapers import learners
from metapers.core import task
from metapers.learners import inner_loop
from metapers.populations import toy

LINEAR = {'num_features': 3, 'hidden': ()}


def episode(user=0):
  population = toy.two_types(num_features=3, num_support=5, num_query=6)
  return population.episode_of((), jnp.asarray(user), 'train')[0]


def test_descent_on_a_quadratic_is_the_closed_form():
  curvature, start = jnp.array([1.0, 3.0]), jnp.array([2.0, -1.0])
  end = inner_loop.descend(lambda x: 0.5 * jnp.sum(curvature * x**2), start, 0.1, num_steps=7)
  np.testing.assert_allclose(end, start * (1 - 0.1 * curvature) ** 7, rtol=1e-6)


def test_rates_may_differ_by_parameter():
  start = {'a': jnp.array(1.0), 'b': jnp.array(1.0)}
  rates = {'a': jnp.array(0.5), 'b': jnp.array(0.0)}
  end = inner_loop.descend(lambda x: 0.5 * (x['a'] ** 2 + x['b'] ** 2), start, rates, num_steps=1)
  assert end == {'a': 0.5, 'b': 1.0}


def test_a_result_that_is_not_finite_gives_the_initial_parameters_to_that_user_alone():
  start = jnp.array([1.0, 1.0])
  curvature = jnp.array([[1.0, 2.0], [1e30, 2.0]])  # of two people; the second one diverges

  def adapt(own):
    return inner_loop.descend(lambda x: 0.5 * jnp.sum(own * x**2), start, 0.1, num_steps=9)

  ends = jax.vmap(adapt)(curvature)
  np.testing.assert_allclose(ends[0], (1 - 0.1 * curvature[0]) ** 9, rtol=1e-6)
  np.testing.assert_array_equal(ends[1], start)


def test_a_fit_is_plain_descent_while_that_descends():
  curvature, start = jnp.array([1.0, 3.0]), jnp.array([2.0, -1.0])
  end = inner_loop.fit(lambda x: 0.5 * jnp.sum(curvature * x**2), start, 0.1, num_steps=7)
  np.testing.assert_allclose(end, start * (1 - 0.1 * curvature) ** 7, rtol=1e-6)


@pytest.mark.parametrize('curvature', [25.0, 1e3, 1e30])
def test_a_fit_never_ends_above_its_start(curvature):
  def loss(x):
    return 0.5 * curvature * jnp.sum(x**2)

  start = jnp.array([1.0, -2.0])
  end = inner_loop.fit(loss, start, 0.1, num_steps=20)
  if curvature < 1e30:  # twenty halvings are too few for that
    assert loss(end) < loss(start)
  else:
    np.testing.assert_array_equal(end, start)


def test_first_order_gradient_is_that_of_the_query_at_the_adapted_parameters():
  learner = learners.make('fomaml', **LINEAR, learn_inner_rate=False)
  params, given = learner.init(jax.random.key(0)), episode()
  gradient = jax.grad(lambda p: learner.loss(p, given, jax.random.key(1))[0])(params)

  pooled = learners.make('pooled', **LINEAR)
  adapted = learner.adapt(params, given.support, given.context, jax.random.key(1))
  expected = jax.grad(lambda p: pooled.loss(p, given, jax.random.key(1))[0])(adapted)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), gradient['adapted'], expected
  )


@pytest.mark.parametrize('name', ['maml', 'fomaml', 'reptile'])
@pytest.mark.parametrize('dtype', ['bool', 'int8', 'uint8', 'float16'])
def test_narrow_features_are_no_other_than_in_float32(name, dtype):
  learner = learners.make(name, num_features=9, hidden=(4,), inner_learning_rate=1e-4)
  params, given = learner.init(jax.random.key(0)), episode()
  levels = jax.random.randint(jax.random.key(1), (5, 2, 9), 0, 2 if dtype == 'bool' else 100)

  def adapted(features):
    shown = given.support.candidates._replace(features=features)
    return learner.adapt(params, given.support._replace(candidates=shown), given.context, None)

  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
    adapted(levels.astype(dtype)),
    adapted(levels.astype('float32')),
  )


def test_second_order_gradient_differs_from_first_order():
  given = episode()
  gradients = []
  for name in ('maml', 'fomaml'):
    learner = learners.make(name, **LINEAR)
    params = learner.init(jax.random.key(0))
    gradients.append(jax.grad(lambda p, f=learner: f.loss(p, given, jax.random.key(1))[0])(params))
  first, second = (jax.tree.leaves(g['adapted'])[0] for g in gradients)
  assert not np.allclose(first, second, rtol=1e-3)


def test_reptile_gradient_is_start_minus_end():
  learner = learners.make('reptile', **LINEAR)
  params, given = learner.init(jax.random.key(0)), episode()
  everything = task.concat(given.support, given.query)
  end = learner.adapt(params, everything, given.context, jax.random.key(1))
  gradient = jax.grad(lambda p: learner.loss(p, given, jax.random.key(1))[0])(params)
  jax.tree.map(
    lambda g, start, stop: np.testing.assert_allclose(g, start - stop, rtol=1e-5),
    gradient['adapted'], params['adapted'], end,
  )  # fmt: skip


def test_anil_adapts_only_the_head():
  learner = learners.make('anil', num_features=3, hidden=(4,), width=2)
  params, given = learner.init(jax.random.key(0)), episode()
  state = learner.adapt(params, given.support, given.context, jax.random.key(1))
  assert jax.tree.map(jnp.shape, state) == {'head': (2,)}


def test_a_step_on_the_mean_is_that_on_the_sum_divided_by_the_comparisons():
  given, key = episode(), jax.random.key(1)
  by_sum, by_mean = (
    learners.make('maml', **LINEAR, inner_steps=1, inner_learning_rate=rate, mean_support_loss=mean)
    for rate, mean in ((0.01, False), (0.05, True))  # of 5 comparisons
  )
  params = by_sum.init(jax.random.key(0)), by_mean.init(jax.random.key(0))
  states = [
    learner.adapt(each, given.support, given.context, key)
    for learner, each in zip((by_sum, by_mean), params)
  ]
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), *states)


def test_mrm_adapts_the_weights_of_its_basis_and_can_be_held():
  given, key = episode(), jax.random.key(1)
  learner = learners.make('mrm', num_features=3, rank=4)
  params = learner.init(jax.random.key(0))
  state = learner.adapt(params, given.support, given.context, key)
  assert jax.tree.map(jnp.shape, state) == {'logits': (4,)} and state['logits'].any()
  held = learners.make('mrm', num_features=3, rank=4, inner_steps=0)
  assert not held.adapt(params, given.support, given.context, key)['logits'].any()


def test_meta_sgd_has_a_rate_for_every_parameter():
  learner = learners.make('meta_sgd', num_features=3, hidden=(4,))
  params = learner.init(jax.random.key(0))
  shapes = [jax.tree.map(jnp.shape, params[name]) for name in ('log_rates', 'adapted')]
  assert shapes[0] == shapes[1]


def test_a_rate_that_is_not_learned_stays():
  learner = learners.make('maml', **LINEAR, learn_inner_rate=False)
  params = learner.init(jax.random.key(0))
  gradient = jax.grad(lambda p: learner.loss(p, episode(), jax.random.key(1))[0])(params)
  assert gradient['log_rates'] == 0


@pytest.mark.parametrize(
  ('kwargs', 'message'),
  [
    ({'inner_steps': 0}, 'inner_steps must be at least 1'),
    ({'inner_learning_rate': 0.0}, 'inner_learning_rate must be positive'),
    ({'hidden': (0,)}, 'widths must be at least 1'),
    ({'depth': 3}, 'maml takes no depth; it takes num_features'),
  ],
)
def test_bad_options_are_named(kwargs, message):
  with pytest.raises(ValueError, match=message):
    learners.make('maml', num_features=3, **kwargs)


@pytest.mark.parametrize('name', ['maml', 'fomaml'])
def test_no_user_has_a_first_layer_of_their_own_in_training(name):
  num_users, num_features, width = 7, 50, 11
  population = toy.two_types(num_features=num_features, num_support=2, num_query=3)
  users = jnp.arange(num_users)
  tasks = jax.vmap(lambda user: population.episode_of((), user, 'train')[0])(users)
  learner = learners.make(name, num_features=num_features, hidden=(width, 4))

  def loss(params):
    keys = jax.random.split(jax.random.key(0), num_users)
    return jax.vmap(learner.loss, (None, 0, 0))(params, tasks, keys)[0].mean()

  program = str(jax.make_jaxpr(jax.grad(loss))(learner.init(jax.random.key(0))))
  assert f'[{num_users},{width},4]' in program  # as of the second layer
  for shape in (f'{num_features},{width}', f'{width},{num_features}', f'{num_features},1'):
    assert f'[{num_users},{shape}]' not in program
