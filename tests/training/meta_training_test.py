"""What meta-training adds to `fit`: start, prepare, coupled users, and a plan without steps."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_runs

from metapers.core import meta_learner, task
from metapers.io.checkpoints import Checkpoints
from metapers.io.writers import MetricsWriter, read_metrics
from metapers.learners import pooled
from metapers.populations import toy
from metapers.training import devices, meta_training, objectives, optimizers
from metapers.training.meta_training import Training

POPULATION = toy.two_types(num_support=2, num_query=3, num_users=5)
SHORT = Training(
  num_steps=4, batch_size=2, chunk_size=2, steps_per_call=2, evaluate_every=2,
  optimizer=optimizers.sgd, learning_rate=0.1,
)  # fmt: skip


def init(key):
  w = jax.random.normal(key, (4,))
  return {'w': w, 'started': jnp.zeros(4), 'bank': jnp.zeros(4)}


def score(params, user_state, candidates):
  return candidates.features @ (params['w'] + user_state)


def linear(**functions):
  """A pooled linear learner, with further functions of its own."""
  adapt = lambda params, support, context, key: params['started']  # noqa: E731
  return meta_learner.from_adapt_score(init, adapt, score, **functions)


def with_histories(calls):
  """A learner that needs `start` and `prepare`; appends their names to `calls`."""

  def start(params, histories, key):
    calls.append('start')
    support = histories.support
    chosen = task.chosen_mask(support)[..., None] * support.candidates.features
    assert histories.query.choice.shape == (5, 0)
    return {**params, 'started': chosen.mean((0, 1, 2)) + jax.random.normal(key, (4,))}

  def prepare(params, histories, key):
    calls.append('prepare')
    shift = histories.support.choice.shape[0] + jax.random.normal(key)
    return {**params, 'bank': params['w'] + shift}

  return linear(start=start, prepare=prepare)


def trained(learner, workdir=None, training=SHORT, **options):
  """Trains in a workdir, from where it stands."""
  options = {'evaluate': by_step} | options
  if workdir is None:
    return meta_training.meta_train(learner, POPULATION, training, progress=False, **options)
  checkpoints = saved(workdir, training)
  try:
    return meta_training.meta_train(
      learner, POPULATION, training, checkpoints=checkpoints, progress=False,
      writer=lambda step: MetricsWriter(workdir, from_step=step), **options,
    )  # fmt: skip
  finally:
    checkpoints.close()


@functools.cache
def uninterrupted():
  """The result of a learner with `start` and `prepare`."""
  return trained(with_histories([]))


def saved(workdir, training=SHORT, **options):
  return Checkpoints(workdir, {'training': {'num_steps': training.num_steps}}, **options)


def by_step(params, step):
  """Scores the later steps higher."""
  return {'score': float(step)}


def test_the_key_of_start_leaves_the_others_as_they_were():
  keys = meta_training.run_keys(7)
  before = jax.random.split(jax.random.key(7), 3)
  assert (jnp.stack(keys[:3]) == before).all() and keys._fields[:3] == ('init', 'steps', 'prepare')
  assert len({jax.random.key_data(key).tobytes() for key in (*keys, jax.random.key(7))}) == 5


def test_start_is_called_once_however_often_a_run_is_resumed(tmp_path):
  calls = []
  learner = with_histories(calls)
  trained(learner, tmp_path, SHORT._replace(num_steps=2))
  extended = trained(learner, tmp_path)
  assert calls.count('start') == 1 and calls[0] == 'start'
  assert small_runs.same_bits(extended, uninterrupted())
  assert (extended.params['started'] != 0).all()


def test_what_is_evaluated_returned_and_restored_is_prepared(tmp_path):
  seen = {}
  learner = with_histories([])
  result = trained(
    learner, tmp_path, evaluate=lambda params, step: seen.update({step: params}) or {'score': -step}
  )
  shift = 5 + jax.random.normal(meta_training.run_keys(0).prepare)
  assert result.best_step == 2 and list(seen) == [2, 4]
  assert small_runs.same_bits(result.best_params['bank'], seen[2]['bank'])
  assert small_runs.same_bits(result.params['bank'], seen[4]['bank'])
  np.testing.assert_array_equal(result.params['bank'], result.params['w'] + shift)
  checkpoints = saved(tmp_path, read_only=True)
  restored = meta_training.restore_best(learner, POPULATION, SHORT, checkpoints)
  checkpoints.close()
  assert small_runs.same_bits(restored, (result.best_params, 2))


def test_what_is_restored_is_prepared_from_arrays_that_lie_where_training_had_them(tmp_path):
  layouts = []

  def prepare(params, histories, key):
    layouts.append((type(params['w']), histories.support.choice.sharding))
    return params

  trained(linear(prepare=prepare), tmp_path)
  checkpoints = saved(tmp_path, read_only=True)
  meta_training.restore_best(linear(prepare=prepare), POPULATION, SHORT, checkpoints)
  checkpoints.close()
  assert layouts[-1] == layouts[-2]


def test_the_same_parameters_are_prepared_once():
  calls = []
  training = SHORT._replace(num_steps=0)
  learner = with_histories(calls)
  meta_training.meta_train(
    learner, POPULATION, training, evaluate=lambda params, step: {'score': 0.0}, progress=False
  )
  assert calls.count('prepare') == 1


def test_training_goes_on_from_parameters_that_are_not_prepared():
  assert small_runs.same_bits(trained(with_histories([]), evaluate=None), uninterrupted())


def test_a_plan_without_steps_starts_evaluates_and_saves_once(tmp_path):
  calls, none = [], SHORT._replace(num_steps=0)
  learner = with_histories(calls)
  first = trained(learner, tmp_path, none)
  assert first.best_step == 0 and calls.count('start') == 1 and (first.params['started'] != 0).all()
  rows = read_metrics(tmp_path)
  assert rows == [{'step': 0, 'evaluation/score': 0.0}]
  again = trained(learner, tmp_path, none, evaluate=lambda params, step: 1 / 0)
  assert small_runs.same_bits(again, first)
  assert calls.count('start') == 1 and read_metrics(tmp_path) == rows
  restored = meta_training.restore_best(learner, POPULATION, none, saved(tmp_path, none))
  assert small_runs.same_bits(restored, (first.params, 0))


def test_a_plan_without_steps_may_get_some_later(tmp_path):
  trained(with_histories([]), tmp_path, SHORT._replace(num_steps=0))
  assert small_runs.same_bits(trained(with_histories([]), tmp_path), uninterrupted())


def test_nothing_saved_is_nothing_to_restore(tmp_path):
  saved(tmp_path).close()
  checkpoints = saved(tmp_path, read_only=True)
  assert meta_training.restore_best(linear(), POPULATION, SHORT, checkpoints) is None
  checkpoints.close()


def test_histories_are_not_computed_for_a_learner_that_does_not_need_them():
  population = POPULATION._replace(histories=lambda arrays: 1 / 0)
  result = meta_training.meta_train(
    linear(), population, SHORT._replace(num_steps=0), progress=False
  )
  params = meta_training.prepared(linear(), population, result.params, 0)
  assert small_runs.same_bits(params, result.params)


@pytest.mark.parametrize('name', ['start', 'prepare'])
@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'w': jnp.zeros(5)}, r'w is float32\[5\] and was float32\[4\]'),
    ({'w': jnp.zeros(4, jnp.float16)}, r'w is float16\[4\] and was float32\[4\]'),
    ({'new': jnp.zeros(1)}, r'new is float32\[1\] and was absent'),
  ],
)
def test_start_and_prepare_must_keep_the_form_of_parameters(name, change, message):
  learner = linear(**{name: lambda params, histories, key: {**params, **change}})
  with pytest.raises(ValueError, match=f'{name} must change neither shapes nor dtypes: {message}'):
    trained(learner, training=SHORT._replace(num_steps=0))


def coupled(calls):
  """A learner whose users' losses are pulled to their mean; appends the number of users."""
  plain = linear()

  def batch_loss(params, tasks, keys):
    calls.append(len(keys))
    losses, metrics = jax.vmap(plain.loss, (None, 0, 0))(params, tasks, keys)
    return (losses + losses.mean()) / 2, metrics

  return linear(batch_loss=batch_loss)


def test_coupled_users_are_taken_all_at_once_and_train_as_they_should():
  """The mean of losses pulled to their mean is their mean."""
  calls, training = [], SHORT._replace(batch_size=6, chunk_size=4)
  pulled = trained(coupled(calls), training=training)
  free = trained(linear(), training=training._replace(chunk_size=6))
  assert calls and set(calls) == {6}
  assert np.abs(pulled.params['w'] - free.params['w']).max() < 1e-5
  risk = trained(coupled([]), training=training._replace(objective=objectives.cvar(0.5)))
  assert np.abs(pulled.params['w'] - risk.params['w']).max() > 1e-3


def test_optimizer_and_objective_are_those_of_the_training():
  made = []

  def recorded(learning_rate, num_steps, *, momentum):
    made.append((learning_rate, num_steps, momentum))
    return optimizers.sgd(learning_rate, num_steps, momentum=momentum)

  training = SHORT._replace(optimizer=functools.partial(recorded, momentum=0.5))
  assert not small_runs.same_bits(trained(linear(), training=training), trained(linear()))
  assert set(made) == {(0.1, 4, 0.5)}


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'batch_size': 6, 'chunk_size': 4}, '6 users does not divide into chunks of 4'),
    ({'batch_size': 0}, 'batch_size and chunk_size must be at least 1, got 0 and 2'),
    ({'chunk_size': 0}, 'batch_size and chunk_size must be at least 1, got 2 and 0'),
    ({'num_steps': -1}, 'num_steps must be at least 0, got -1'),
    ({'steps_per_call': 0}, 'steps_per_call of at least 1'),
    ({'learning_rate': -1.0}, 'learning_rate must be at least 0'),
    ({'shots': 9}, r"'uniform' or a number in 0\.\.2, got 9"),
  ],
)
def test_impossible_trainings_are_refused(changes, message):
  with pytest.raises(ValueError, match=message):
    trained(linear(), training=SHORT._replace(**changes))


def test_frozen_parameters_are_prepared_and_restored_with_the_others(tmp_path):
  learner = with_histories([])
  result = trained(learner, tmp_path, frozen=('started', 'bank'))
  assert (result.params['started'] != 0).all() and (result.params['bank'] != 0).all()
  checkpoints = saved(tmp_path, read_only=True)
  restored = meta_training.restore_best(
    learner, POPULATION, SHORT, checkpoints, frozen=('started', 'bank')
  )
  checkpoints.close()
  assert small_runs.same_bits(restored, (result.params, 4))


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'learning_rate': -1.0}, 'learning_rate must be at least 0 and finite, got -1'),
    ({'learning_rate': float('nan')}, 'learning_rate must be at least 0 and finite, got nan'),
    ({'steps_per_call': 0}, 'steps_per_call of at least 1'),
    ({'num_steps': -1}, 'num_steps must be at least 0, got -1'),
    ({'batch_size': 0}, 'batch_size and chunk_size must be at least 1, got 0'),
    ({'keep_checkpoints': 0}, 'keep_checkpoints must be at least 1, got 0'),
    (
      {'optimizer': functools.partial(optimizers.adamw, clip_norm=-1.0)},
      'clip_norm must be above 0',
    ),
  ],
)
def test_training_that_cannot_be_is_refused(changes, message):
  training = meta_training.Training(num_steps=4, batch_size=8, chunk_size=8)._replace(**changes)
  with pytest.raises(ValueError, match=message):
    meta_training.check_options(pooled.pooled(4), training, devices.placement())
