"""Eight devices, faked by a process of its own, do the same as one."""

import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import optax
import pytest

from metapers import learners
from metapers.populations import toy
from metapers.training import devices, loop, objectives, step

NUM_DEVICES = 8


def program():
  """Compiles a step of two chunks; returns it as each device gets it."""
  learner = learners.make('pooled', num_features=4, hidden=())
  population = toy.two_types(num_support=1, num_query=1)
  mesh, optimizer = devices.task_mesh(), optax.sgd(0.1)
  loss = step.meta_loss(learner, objectives.mean(), mesh=mesh, chunk_size=3)
  sampler = step.task_sampler(population, batch_size=6 * NUM_DEVICES, shots=1)
  state = loop.initial_state(learner.init(jax.random.key(0)), optimizer, (), jax.random.key(0))
  arrays = devices.place(population.arrays, mesh)
  compiled = jax.jit(step.make_step(loss, sampler, optimizer)).lower(state, {}, arrays).compile()
  return compiled.as_text()


def trained():
  """Draws a batch of users and takes five steps of MAML; returns every array by name."""
  population = toy.two_types(num_support=2, num_query=2)
  learner = learners.make('maml', num_features=4, hidden=(3,), inner_steps=1)
  mesh, sampler = devices.task_mesh(), step.task_sampler(population, batch_size=32)

  def sharded(arrays, key):
    return devices.shard(sampler(arrays, key).tasks, mesh, axis=0)

  tasks = jax.jit(sharded)(population.arrays, jax.random.key(3))
  assert len(tasks.user.sharding.device_set) == jax.device_count()
  result = loop.fit(
    learner.init(jax.random.key(0)),
    step.meta_loss(learner, objectives.mean(), mesh=mesh, chunk_size=2),
    sampler,
    population.arrays,
    optax.sgd(0.1),  # Adam blows rounding up where the gradient is zero in theory
    plan=loop.Plan(5),
    key=jax.random.key(0),
    progress=False,
  )
  named, _ = jax.tree_util.tree_flatten_with_path({'tasks': tasks, 'params': result.params})
  return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in named}


@pytest.fixture(scope='module')
def both(tmp_path_factory):
  path = tmp_path_factory.mktemp('devices') / 'eight.npz'
  flags = f'{os.environ["XLA_FLAGS"]} --xla_force_host_platform_device_count={NUM_DEVICES}'
  environment = {**os.environ, 'XLA_FLAGS': flags, 'JAX_PLATFORMS': 'cpu'}
  subprocess.run([sys.executable, __file__, path], env=environment, check=True, timeout=120)
  with np.load(path) as eight:
    return trained(), dict(eight)


def test_the_number_of_devices_does_not_change_who_is_drawn(both):
  one, eight = both
  names = [name for name in one if 'tasks' in name]
  assert names and all(np.array_equal(one[name], eight[name]) for name in names)


def test_the_number_of_devices_changes_parameters_by_rounding_only(both):
  one, eight = both
  names = [name for name in one if 'params' in name]
  assert names
  for name in names:
    np.testing.assert_allclose(one[name], eight[name], rtol=0, atol=1e-5)


def test_each_device_draws_its_own_users_and_none_travels(both):
  _, eight = both
  text = str(eight['program'])
  assert '[6,' in text and f'[{6 * NUM_DEVICES}' not in text
  assert 'all-reduce(' in text and 'all-gather' not in text and 'all-to-all' not in text


if __name__ == '__main__':
  assert jax.device_count() == NUM_DEVICES
  np.savez(pathlib.Path(sys.argv[1]), **trained(), program=program())
