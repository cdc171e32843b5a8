import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small_runs

from metapers import learners
from metapers.core import task
from metapers.populations import toy
from metapers.training import devices, objectives, step

POPULATION = toy.two_types()
KEY = jax.random.key(5)


@functools.cache
def compiled(**options):
  return jax.jit(step.task_sampler(POPULATION, **{'batch_size': 64} | options))


def draw(key=KEY, **options):
  return compiled(**options)(POPULATION.arrays, key)


def loss_of(learner, chunk_size, objective=None):
  objective = objective or objectives.mean()
  placement = devices.placement()
  return jax.jit(step.meta_loss(learner, objective, placement=placement, chunk_size=chunk_size))


def maml():
  return learners.make('maml', num_features=4, hidden=(3,))


def pooled():
  return learners.make('pooled', num_features=4, hidden=())


def test_the_first_users_of_a_batch_do_not_depend_on_its_size():
  small, large = draw(batch_size=6), draw()
  first = task.take(large, jnp.arange(6))
  assert small_runs.same_bits(small.tasks, first.tasks)
  assert jnp.array_equal(small.keys, first.keys)


def test_users_and_keys_of_a_batch_differ():
  batch = draw()
  assert len(np.unique(batch.tasks.user)) > 20
  assert len(np.unique(jax.random.key_data(batch.keys), axis=0)) == 64


def test_uniform_shots_reach_from_none_to_all():
  batches = [draw(key).tasks.support for key in jax.random.split(KEY, 18)]
  kept = np.bincount(np.concatenate([task.num_comparisons(each) for each in batches]), minlength=9)
  assert kept.sum() == 18 * 64 and len(kept) == 9
  # 128 expected of each; the standard deviation is below 11.
  assert kept.min() > 78 and kept.max() < 178


def test_fixed_shots_are_kept_and_change_nothing_else():
  fixed, free = draw(shots=3), draw()
  assert (task.num_comparisons(fixed.tasks.support) == 3).all()
  assert small_runs.same_bits(fixed.tasks.query, free.tasks.query)


def test_the_split_decides_on_the_users():
  assert (draw().tasks.user < POPULATION.spec.num_users).all()
  assert (draw(split='validation').tasks.user == POPULATION.spec.num_users).all()


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'batch_size': 0}, 'batch_size must be at least 1, got 0'),
    ({'shots': 9}, r"'uniform' or a number in 0\.\.8, got 9"),
    ({'shots': -1}, 'got -1'),
    ({'shots': 'all'}, "got 'all'"),
    ({'split': 'dev'}, "split must be one of train, validation, test, got 'dev'"),
  ],
)
def test_bad_options_are_refused(options, message):
  with pytest.raises(ValueError, match=message):
    step.task_sampler(POPULATION, **({'batch_size': 2} | options))


def test_the_loss_of_a_batch_is_that_of_a_loop_over_its_users():
  learner, batch = maml(), draw(batch_size=6)
  params = learner.init(KEY)
  value, (state, metrics) = loss_of(learner, 3)(params, (), batch, ())
  each = jax.jit(learner.loss)
  single = [
    each(params, task.take(batch.tasks, index), batch.keys[index]) for index in range(6)
  ]  # fmt: skip
  np.testing.assert_allclose(value, np.mean([loss for loss, _ in single]), rtol=1e-5)
  accuracy = np.mean([metrics['accuracy'] for _, metrics in single])
  np.testing.assert_allclose(metrics['accuracy'], accuracy, rtol=1e-5)
  assert state == ()


GROUPS = jnp.array([2, 0, 1, 1, 0, 0])


def test_the_objective_gets_losses_and_groups_in_order_and_carries_its_state():
  learner, batch = pooled(), draw(batch_size=6)._replace(groups=GROUPS)
  params = learner.init(KEY)

  def apply(losses, groups, state):
    return losses @ groups, {'losses': losses, 'groups': groups, 'count': state['count'] + 1}

  objective = objectives.Objective(lambda num_groups: {'count': 0}, apply)
  _, (whole, _) = loss_of(learner, 6, objective)(params, {'count': 4}, batch, ())
  _, (chunked, _) = loss_of(learner, 2, objective)(params, {'count': 4}, batch, ())
  assert whole['count'] == 5
  np.testing.assert_array_equal(chunked['groups'], GROUPS)
  np.testing.assert_allclose(chunked['losses'], whole['losses'], rtol=1e-5)


@pytest.mark.parametrize(
  'objective',
  [objectives.mean(), objectives.cvar(0.4), objectives.group_dro(), objectives.group_invariant()],
  ids=['mean', 'cvar', 'group_dro', 'group_invariant'],
)
@pytest.mark.parametrize('chunk_size', [1, 3, 100])
def test_chunks_give_the_loss_and_gradient_of_all_users_at_once(objective, chunk_size):
  learner, batch = pooled(), draw(batch_size=6)._replace(groups=GROUPS)
  params, state = learner.init(KEY), objective.init(3)

  def at_once(params):
    losses, _ = jax.vmap(learner.loss, (None, 0, 0))(params, batch.tasks, batch.keys)
    return objective.apply(losses, GROUPS, state)[0]

  expected = jax.jit(jax.value_and_grad(at_once))(params)
  in_chunks = jax.value_and_grad(loss_of(learner, chunk_size, objective), has_aux=True)
  (value, _), gradient = jax.jit(in_chunks)(params, state, batch, ())
  np.testing.assert_allclose(value, expected[0], rtol=1e-5)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), gradient, expected[1])


@pytest.mark.parametrize(('num_chunks', 'num_devices'), [(1, 1), (3, 1), (3, 2), (2, 6), (6, 2)])
def test_chunks_take_a_share_of_every_device_and_are_joined_in_order(num_chunks, num_devices):
  users = np.arange(12)
  chunks = step.in_chunks(jnp.asarray(users), num_chunks, num_devices)
  assert chunks.shape == (num_chunks, 12 // num_chunks)
  blocks = users.reshape(num_devices, -1)
  for number, chunk in enumerate(np.asarray(chunks)):  # the next ones of each device's block
    share = blocks.shape[1] // num_chunks
    expected = blocks[:, number * share : (number + 1) * share]
    np.testing.assert_array_equal(chunk, expected.ravel())
  np.testing.assert_array_equal(step.out_of_chunks(chunks, num_devices), users)


def test_losses_are_computed_beforehand_only_where_their_weights_depend_on_them():
  learner, batch = pooled(), draw(batch_size=6)

  def num_loops(objective):
    gradient = jax.value_and_grad(loss_of(learner, 2, objective), has_aux=True)
    compiled = jax.jit(gradient).lower(learner.init(KEY), (), batch, ()).compile()
    return compiled.as_text().count(' while(')

  assert num_loops(objectives.cvar(0.4)) == 2 * num_loops(objectives.mean()) > 0


def test_frozen_parameters_are_not_differentiated():
  learner, batch, asked = pooled(), draw(batch_size=4), []

  @jax.custom_vjp
  def watched(x):
    return x

  watched.defvjp(lambda x: (x, None), lambda _, slope: (asked.append(slope.shape), (slope,))[1])

  def loss(params, episode, key):
    seen = {**params, 'base': watched(params['base']), 'head': watched(params['head'])}
    return jnp.sum(seen['base']) * jnp.sum(seen['head']), {}

  trained, frozen = step.split_frozen({'base': jnp.ones(5), 'head': jnp.ones(2)}, ['base'])
  value_of = step.meta_loss(
    learner._replace(loss=loss), objectives.mean(), placement=devices.placement(), chunk_size=2
  )
  gradient = jax.grad(lambda x: value_of(step.join_frozen(x, frozen), (), batch, ())[0])(trained)
  np.testing.assert_allclose(gradient['head'], [5, 5])
  assert set(asked) == {(2,)}


def test_a_batch_that_leaves_a_rest_is_refused():
  learner = pooled()
  with pytest.raises(ValueError, match=r'6 users does not divide into chunks of 4 .*multiple of 4'):
    loss_of(learner, 4)(learner.init(KEY), (), draw(batch_size=6), ())


@pytest.mark.parametrize(('batch_size', 'chunks'), [(64, 8), (100, 20), (7, 1), (11, 11), (1, 1)])
def test_a_chunk_of_a_cpu_is_the_largest_share_of_at_most_eight(batch_size, chunks):
  assert step.num_chunks(batch_size, None, devices.placement()) == chunks


@pytest.mark.parametrize(('weights', 'chunks'), [(2**21, 8), (2**21 + 1, 4)])
def test_chunks_of_large_parameters_are_larger(weights, chunks):
  params = {'kernel': jax.ShapeDtypeStruct((weights,), 'float32')}
  assert step.num_chunks(64, None, devices.placement(), params) == chunks


@pytest.mark.parametrize('sizes', [(6, 0), (0, 2), (-1, 2)])
def test_chunks_and_batches_without_users_are_refused(sizes):
  with pytest.raises(ValueError, match=r'must be at least 1, got {} and {}'.format(*sizes)):
    step.num_chunks(*sizes, devices.placement())


def test_a_step_draws_from_its_own_key_and_counts():
  advance = step.make_step(small_runs.squared, small_runs.noise_sampler, optax.sgd(0.1))
  params, seed_key = {'w': jnp.zeros(3)}, jax.random.key(1)
  state = step.TrainState(jnp.asarray(7), seed_key, params, optax.sgd(0.1).init(params), 0)
  after, metrics = advance(state, {}, jnp.arange(3.0))
  batch = small_runs.noise_sampler(jnp.arange(3.0), jax.random.fold_in(seed_key, 7))
  gradient = jax.grad(lambda p: small_runs.squared(p, 0, batch, ())[0])(params)['w']
  np.testing.assert_allclose(after.params['w'], -0.1 * gradient, rtol=1e-6)
  np.testing.assert_allclose(metrics['gradient_norm'], jnp.linalg.norm(gradient), rtol=1e-6)
  assert (after.step, after.objective_state, after.seed_key) == (8, 1, seed_key)
