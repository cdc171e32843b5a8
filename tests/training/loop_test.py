import os
import signal
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small_runs

from metapers.io.checkpoints import Checkpoints
from metapers.io.writers import MetricsWriter, read_metrics
from metapers.training import loop, signals

SCHEDULE = loop.Schedule(num_steps=12, steps_per_call=4)


def recorded(workdir, schedule, **options):
  """Runs with metrics written, and returns (result, rows)."""
  writer = lambda start: MetricsWriter(workdir, from_step=start)  # noqa: E731
  return small_runs.point(schedule, writer=writer, **options), read_metrics(workdir)


def exploding(at):
  """An optimizer whose update number `at` is not finite."""

  def update(updates, state, params=None):
    del params
    factor = jnp.where(state == at, jnp.inf, -0.1)
    return jax.tree.map(lambda x: factor * x, updates), state + 1

  return optax.GradientTransformation(lambda params: jnp.zeros((), jnp.int32), update)


def test_sgd_is_sgd():
  params = np.zeros(3)
  for i in range(3):
    key = jax.random.fold_in(jax.random.key(7), i)
    batch = small_runs.noise_sampler(jnp.arange(3.0), key)
    params -= 0.1 * 2 * np.mean(params - np.asarray(batch), 0) / 3  # the mean is over 3 entries too
  result = small_runs.point(loop.Schedule(num_steps=3), key=jax.random.key(7))
  np.testing.assert_allclose(result.params['w'], params, rtol=1e-6)


@pytest.mark.parametrize(('per_call', 'every'), [(1, 0), (5, 0), (100, 0), (3, 4), (12, 1)])
def test_how_a_run_is_cut_into_calls_changes_no_bit(per_call, every):
  whole = small_runs.point(SCHEDULE)
  cut = small_runs.point(loop.Schedule(12, per_call, every))
  assert small_runs.same_bits(whole, cut)


def test_another_seed_is_another_run():
  assert not small_runs.same_bits(
    small_runs.point(SCHEDULE), small_runs.point(SCHEDULE, key=jax.random.key(1))
  )


def test_the_step_is_traced_once_however_long_the_calls():
  def traces(schedule):
    counted = []

    def sampler(arrays, key):
      counted.append(key)
      return small_runs.noise_sampler(arrays, key)

    small_runs.point(schedule, sampler=sampler)
    return len(counted)

  assert traces(loop.Schedule(100, 7, 30)) == traces(loop.Schedule(1)) == 1


def test_the_loss_is_given_the_arrays():
  def loss(params, objective_state, batch, arrays):
    return jnp.sum((params['w'] - arrays) ** 2), (objective_state, {})

  result = small_runs.point(loop.Schedule(1), batch_loss=loss)
  np.testing.assert_allclose(result.params['w'], 0.2 * np.arange(3.0), rtol=1e-6)


def test_under_x64_a_run_is_resumed_with_the_same_bits(tmp_path):
  def run(num_steps, **options):
    return small_runs.point(loop.Schedule(num_steps, 2), start={'w': jnp.zeros(3)}, **options)

  with jax.enable_x64(True):
    whole = run(4)
    assert whole.params['w'].dtype == np.float64
    for num_steps in (2, 4):
      checkpoints = Checkpoints(tmp_path, {})
      resumed = run(num_steps, checkpoints=checkpoints)
      checkpoints.close()
  assert small_runs.same_bits(resumed, whole)


def test_the_callers_parameters_survive():
  start = {'w': jnp.ones(3)}
  small_runs.point(SCHEDULE, start=start)
  np.testing.assert_array_equal(start['w'], np.ones(3))


def test_metrics_are_written_once_a_call_and_are_means_of_its_steps(tmp_path):
  _, rows = recorded(tmp_path, loop.Schedule(10, 4, 7))
  assert [row['step'] for row in rows] == [4, 7, 10]
  _, single = recorded(tmp_path / 'single', loop.Schedule(10, 1))
  means = [np.mean([row['loss'] for row in single[a:b]]) for a, b in ((0, 4), (4, 7), (7, 10))]
  np.testing.assert_allclose([row['loss'] for row in rows], means, rtol=1e-6)
  assert set(rows[0]) == {'step', 'first', 'loss', 'gradient_norm', 'parameter_norm'}


def test_evaluations_come_at_their_steps_and_at_the_end(tmp_path):
  seen = []

  def evaluate(params, step):
    seen.append((step, np.array(params['w'])))
    return {'score': 0.0, 'extra': step}

  result, rows = recorded(tmp_path, loop.Schedule(10, 4, 4), evaluate=evaluate)
  assert [step for step, _ in seen] == [4, 8, 10]
  assert [row['evaluation/extra'] for row in rows if 'evaluation/extra' in row] == [4, 8, 10]
  np.testing.assert_array_equal(seen[-1][1], result.params['w'])


@pytest.mark.parametrize('keep', [None, 1, 3])
@pytest.mark.parametrize(('scores', 'best'), [((1, 3, 2), 8), ((3, 1, 3), 12), ((3, 2, 1), 4)])
def test_the_best_is_the_latest_of_the_highest_scores(tmp_path, keep, scores, best):
  seen = {}

  def evaluate(params, step):
    seen[step] = np.array(params['w'])
    return {'score': scores[step // 4 - 1]}

  checkpoints = Checkpoints(tmp_path, {}, keep=keep) if keep else None
  result = small_runs.point(loop.Schedule(12, 4, 4), evaluate=evaluate, checkpoints=checkpoints)
  if checkpoints:
    checkpoints.close()
  assert result.best_step == best
  np.testing.assert_array_equal(result.best_params['w'], seen[best])
  np.testing.assert_array_equal(result.params['w'], seen[12])


def test_without_evaluations_the_last_is_the_best():
  result = small_runs.point(SCHEDULE)
  assert result.best_step == 12
  assert small_runs.same_bits(result.params, result.best_params)


def test_a_loss_that_is_not_finite_stops_the_run_and_spares_the_last_checkpoint(tmp_path):
  checkpoints = Checkpoints(tmp_path, {})
  with pytest.raises(FloatingPointError, match=r'^point: step 9 is not finite'):
    small_runs.point(loop.Schedule(12, 4, 4), optimizer=exploding(at=9), checkpoints=checkpoints)
  found = checkpoints.restore(
    loop.initial_state({'w': jnp.zeros(3)}, exploding(9), jnp.array(0), jax.random.key(0))
  )
  checkpoints.close()
  assert found.step == 8
  expected = small_runs.point(loop.Schedule(8, 4), optimizer=exploding(at=9))
  np.testing.assert_array_equal(found.state.params['w'], expected.params['w'])


@pytest.mark.parametrize('every', [0, 10])
def test_an_update_that_overflows_is_not_saved_even_at_the_last_step(tmp_path, every):
  checkpoints = Checkpoints(tmp_path, {})
  optimizer = exploding(at=9)
  with pytest.raises(FloatingPointError, match=r'step 9 .*gradient_norm \d.*parameter_norm inf'):
    small_runs.point(loop.Schedule(10, 5, every), optimizer=optimizer, checkpoints=checkpoints)
  checkpoints.close()
  assert not small_runs.saves(tmp_path)


def test_a_gradient_that_is_not_finite_stops_the_run_before_it_is_saved():
  def cliff(params, objective_state, batch, arrays):
    # sqrt has an infinite slope at 0, where its value is fine.
    return jnp.sqrt(jnp.sum(params['w'])) + 0.0 * batch.sum(), (objective_state, {})

  with pytest.raises(FloatingPointError, match=r'loss 0.0, gradient_norm (nan|inf)'):
    small_runs.point(loop.Schedule(1), batch_loss=cliff)


def test_a_score_that_is_not_finite_stops_the_run(tmp_path):
  checkpoints = Checkpoints(tmp_path, {})
  evaluate = lambda params, step: {'score': jnp.nan if step == 8 else 1.0}  # noqa: E731
  with pytest.raises(FloatingPointError, match='point: the score of step 8 is nan'):
    small_runs.point(loop.Schedule(12, 4, 4), evaluate=evaluate, checkpoints=checkpoints)
  like = loop.initial_state({'w': jnp.zeros(3)}, optax.sgd(0.1), jnp.array(0), jax.random.key(0))
  assert checkpoints.restore(like).step == 4
  checkpoints.close()


def test_numbers_without_a_score_are_refused():
  with pytest.raises(ValueError, match=r"must return a 'score'.*\['accuracy'\]"):
    small_runs.point(SCHEDULE, evaluate=lambda params, step: {'accuracy': 1.0})


@pytest.mark.parametrize('schedule', [(-1, 1, 0), (1, 0, 0), (1, 1, -1)])
def test_impossible_plans_are_refused(schedule):
  with pytest.raises(ValueError, match='a schedule needs num_steps and'):
    small_runs.point(loop.Schedule(*schedule))


@pytest.fixture
def heeds_sigint():
  """A shell's background job, and so what it starts, ignores SIGINT."""
  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  yield
  signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
  ('number', 'end', 'code'),
  [(signal.SIGTERM, SystemExit, 143), (signal.SIGINT, KeyboardInterrupt, None)],
)
@pytest.mark.usefixtures('heeds_sigint')
def test_a_signal_saves_at_the_next_call_boundary(tmp_path, number, end, code):
  def evaluate(params, step):
    if step == 4:
      os.kill(os.getpid(), number)
    return {'score': 0.0}

  handler = signal.getsignal(number)
  checkpoints = Checkpoints(tmp_path, {})
  with pytest.raises(end) as ended:
    small_runs.point(loop.Schedule(12, 3, 4), evaluate=evaluate, checkpoints=checkpoints)
  assert getattr(ended.value, 'code', None) == code
  assert signal.getsignal(number) is handler
  resumed = small_runs.point(loop.Schedule(12, 3, 4), checkpoints=checkpoints)
  checkpoints.close()
  assert small_runs.same_bits(resumed.params, small_runs.point(SCHEDULE).params)


@pytest.mark.usefixtures('heeds_sigint')
def test_a_second_ctrl_c_ends_a_run_at_once():
  with pytest.raises(KeyboardInterrupt), signals.Interruption(0):
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.01)  # the first is noted
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(5)


def test_saving_goes_on_beside_the_next_steps_without_seeing_them(tmp_path):
  """The state is donated: a save that only looked at it would store what came after."""
  seen = {}

  def evaluate(params, step):
    seen[step] = np.array(params['w'])
    return {'score': -abs(step - 2)}

  checkpoints = Checkpoints(tmp_path, {}, keep=1)
  start = {'w': jnp.zeros((200_000, 3))}
  drift = optax.GradientTransformation(
    lambda params: (), lambda g, state, params=None: (jax.tree.map(jnp.ones_like, g), state)
  )
  small_runs.point(
    loop.Schedule(8, 1, 1), start=start, batch_loss=first_row, optimizer=drift, evaluate=evaluate,
    checkpoints=checkpoints,
  )  # fmt: skip
  like = loop.initial_state(start, drift, jnp.array(0), jax.random.key(0))
  np.testing.assert_array_equal(checkpoints.best(like).state.params['w'], seen[2])
  np.testing.assert_array_equal(checkpoints.restore(like).state.params['w'], seen[8])
  checkpoints.close()


def first_row(params, objective_state, batch, arrays):
  return jnp.mean((params['w'][:1] - batch) ** 2), (objective_state, {})
