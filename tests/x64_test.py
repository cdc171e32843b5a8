"""Under jax_enable_x64 everything is drawn and computed as without it, in float32 and int32."""

import functools
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from learner_contract_test import SIZES, SMALL
from populations import people_test, small_tables

from metapers import Personalizer, learners, pairs
from metapers.core import task
from metapers.evaluation import adaptation, asking
from metapers.populations import np_btl, people, reward_ensemble, toy
from metapers.training import devices, objectives, optimizers, step

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[1]
SMALL_EPISODES = {'num_support': 4, 'num_query': 4}
simulated = functools.partial(
  reward_ensemble.reward_ensemble, **SMALL_EPISODES, num_slates=2, num_held_out=8
)
POPULATIONS = {
  'extreme': lambda: simulated(
    small_tables.table(), pair_rule='extreme', flip_rate=0.1, track='features', num_users=6
  ),
  'noisy': lambda: simulated(small_tables.table(), pair_rule='controversial', label_accuracy=0.8),
  'people': lambda: people.people(people_test.made_up(lengths=[16] * 30), **SMALL_EPISODES),
  'fresh': lambda: np_btl.np_btl(**SMALL_EPISODES),
  'published': lambda: np_btl.np_btl(**SMALL_EPISODES, pairs='published'),
  'two_types': lambda: toy.two_types(**SMALL_EPISODES),
}


def both(function):
  """Returns what a function returns without and with x64, as host arrays by path."""
  made = []
  for is_wide in (False, True):
    with jax.enable_x64(is_wide):
      found = jax.tree_util.tree_leaves_with_path(jax.device_get(function()))
    made.append({jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in found})
  return made


@pytest.mark.parametrize('name', POPULATIONS)
def test_users_and_their_episodes_have_the_same_bits(name):
  def drawn():
    population = POPULATIONS[name]()
    keys = jax.random.split(jax.random.key(0), 3)

    @jax.jit
    def episodes(arrays):
      train = jax.vmap(lambda key: population.sample_episode(arrays, key, 'train'))(keys)
      return train, population.episode_of(arrays, jnp.int32(2), 'test')

    return population.arrays, episodes(population.arrays)

  plain, wide = both(drawn)
  assert list(plain) == list(wide)
  for path, array in plain.items():
    assert array.dtype == wide[path].dtype, f'{path}: {wide[path].dtype}'
    np.testing.assert_array_equal(array, wide[path], err_msg=path)


def shapes_of(name):
  """Traces, without compiling, two steps of a learner's training, and all that it serves."""
  population = toy.two_types()
  learner = learners.make(name, num_features=4, **SIZES.get(name, SMALL))
  placement, optimizer = devices.placement(), optimizers.adamw(1e-3, 2)
  update = step.make_step(
    step.meta_loss(learner, objectives.mean(), placement=placement, chunk_size=4),
    step.task_sampler(population, batch_size=8),
    optimizer,
  )
  key = jax.random.key(0)

  def run(key):
    state = step.TrainState(jnp.int32(0), key, learner.init(key), (), ())
    state = state._replace(optimizer_state=optimizer.init(state.params))
    state = jax.lax.fori_loop(0, 2, lambda _, now: update(now, {}, ())[0], state)
    params = learner.prepare(state.params, population.histories(()), key)
    tasks, _ = adaptation.episodes(population, split='test', num_users=2)
    curve = adaptation.evaluate(learner, params, tasks, None, shots=(0, 2), key=key)
    episode = task.take(tasks, 0)
    user = learner.adapt(params, episode.support, episode.context, key)
    served = [f(params, user, episode.query.candidates) for f in (learner.score, learner.predict)]
    if learner.has_posterior:
      served.append(learner.sample(params, user, episode.query.candidates))
      served.append(asking.ask(learner, params, tasks, None, rule='epig', num_questions=2, key=key))
    return state.step, state.optimizer_state, params, curve, user, served

  found = jax.tree_util.tree_leaves_with_path(jax.eval_shape(run, key))
  return {jax.tree_util.keystr(path): str(leaf.dtype) for path, leaf in found}


@pytest.mark.parametrize('name', learners.LEARNERS)
def test_a_learner_trains_and_serves_in_32_bits(name):
  with jax.enable_x64(True):
    found = shapes_of(name)
  assert not {path: dtype for path, dtype in found.items() if dtype.endswith('64')}


def test_a_served_user_is_the_same():
  def served():
    model = Personalizer.load_pretrained()
    rng = np.random.default_rng(0)
    mean, scale = model.export.scaling
    given = mean + scale * rng.normal(size=(8, 2, mean.size))
    user = model.adapt(pairs(given[:4, 0], given[:4, 1]))
    user = model.update(user, pairs(*given[model.ask(user, given[4:]) + 4]))
    return user.user_state, model.best_of(user, given[:, 0]), model.probability(user, *given[:2])

  plain, wide = both(served)
  for path, array in plain.items():
    assert array.dtype == wide[path].dtype, f'{path}: {wide[path].dtype}'
    np.testing.assert_allclose(array, wide[path], rtol=1e-4, atol=1e-5, err_msg=path)


def test_a_quick_table_runs(tmp_path):
  options = {
    'training.num_steps': 4,
    'training.steps_per_call': 2,
    'training.evaluate_every': 2,
    'evaluation.num_users': 8,
    'evaluation.num_validation_users': 8,
    'evaluation.num_particles': 32,
    'evaluation.num_resamples': 20,
    'evaluation.shots': (0, 2),
    'benchmark.learners': ('cnp', 'pooled'),
    'population.kwargs.num_held_out': 8,
  }
  flags = [f'--config.{name}={value}' for name, value in options.items()]
  config = '--config=experiments/configs/quickstart.py:quick'
  ran = subprocess.run(
    [sys.executable, '-m', 'experiments.benchmark', config, f'--workdir={tmp_path}', *flags],
    cwd=ROOT,
    env=os.environ | {'JAX_ENABLE_X64': '1'},
    capture_output=True,
    text=True,
  )
  assert ran.returncode == 0, ran.stderr
  assert 'Warning' not in ran.stderr, ran.stderr  # jax warns of indices wider than what they fill
  for row in ('oracle', 'bayes', 'cnp', 'pooled'):
    assert f'\n{row} ' in ran.stdout
  assert 'cnp' in (tmp_path / 'report.html').read_text()
