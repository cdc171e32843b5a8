"""Eight devices, faked by a process of its own, do the same as one."""

import os
import pathlib
import re
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


def collectives():
  """Compiles a step of two chunks and returns the collective operations of its program."""
  learner = learners.make('pooled', num_features=4, hidden=())
  population = toy.two_tastes(num_support=1, num_query=1)
  loss = step.meta_loss(learner, objectives.mean(), mesh=devices.task_mesh(), chunk_size=1)
  sampler = step.task_sampler(population, batch_size=2 * jax.device_count(), shots=1)
  optimizer = optax.sgd(0.1)
  state = loop.initial_state(learner.init(jax.random.key(0)), optimizer, (), 0)
  state, arrays = devices.replicate((state, population.arrays), devices.task_mesh())
  program = jax.jit(step.make_step(loss, sampler, optimizer)).lower(state, arrays).compile()
  return sorted(set(re.findall(r'(?:all|collective|reduce)-[a-z-]+(?=\()', program.as_text())))


def trained():
  """Draws a batch of users and takes five steps of MAML; returns every array by name."""
  population = toy.two_tastes(num_support=3, num_query=4)
  learner = learners.make('maml', num_features=4, hidden=(3,))
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
    progress=False,
  )
  named, _ = jax.tree_util.tree_flatten_with_path({'tasks': tasks, 'params': result.params})
  return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in named}


@pytest.fixture(scope='module')
def both(tmp_path_factory):
  path = tmp_path_factory.mktemp('devices') / 'eight.npz'
  flags = f'--xla_force_host_platform_device_count={NUM_DEVICES}'
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


def test_no_user_travels_between_devices(both):
  """Each device draws its own users; only losses and gradients are summed."""
  _, eight = both
  assert eight['collectives'].tolist() == ['all-reduce']


if __name__ == '__main__':
  assert jax.device_count() == NUM_DEVICES
  np.savez(pathlib.Path(sys.argv[1]), **trained(), collectives=collectives())
