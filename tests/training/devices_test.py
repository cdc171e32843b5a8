"""Eight devices, faked by a process of its own, do the same as one."""

import json
import pathlib
import shutil
import sys

import jax
import layouts
import numpy as np
import optax
import pytest
import small_runs
from jax.sharding import PartitionSpec

from metapers import learners
from metapers.io.checkpoints import SET_ASIDE
from metapers.populations import toy
from metapers.training import devices, loop, objectives, step

pytestmark = small_runs.READS_DAMAGED_FILES
NUM_DEVICES = 8
HALF = layouts.SCHEDULE._replace(num_steps=4)


def program():
  """Compiles a step of two chunks; returns it as each device gets it."""
  learner = learners.make('pooled', num_features=4, hidden=())
  population = toy.two_types(num_support=1, num_query=1)
  placement, optimizer = devices.placement(), optax.sgd(0.1)
  loss = step.meta_loss(learner, objectives.mean(), placement=placement, chunk_size=3)
  sampler = step.task_sampler(population, batch_size=6 * NUM_DEVICES, shots=1)
  state = loop.initial_state(learner.init(jax.random.key(0)), optimizer, (), jax.random.key(0))
  arrays = placement.place(population.arrays, 'arrays')
  compiled = jax.jit(step.make_step(loss, sampler, optimizer)).lower(state, {}, arrays).compile()
  return compiled.as_text()


def trained():
  """Draws a batch of users and takes five steps of MAML; returns every array by name."""
  population = toy.two_types(num_support=2, num_query=2)
  learner = learners.make('maml', num_features=4, hidden=(3,), inner_steps=1)
  placement, sampler = devices.placement(), step.task_sampler(population, batch_size=32)

  def sharded(arrays, key):
    return placement.divide(sampler(arrays, key).tasks, axis=0)

  tasks = jax.jit(sharded)(population.arrays, jax.random.key(3))
  assert len(tasks.user.sharding.device_set) == jax.device_count()
  result = loop.fit(
    learner.init(jax.random.key(0)),
    step.meta_loss(learner, objectives.mean(), placement=placement, chunk_size=2),
    sampler,
    population.arrays,
    optax.sgd(0.1),  # Adam blows rounding up where the gradient is zero in theory
    schedule=loop.Schedule(5),
    key=jax.random.key(0),
    progress=False,
  )
  named, _ = jax.tree_util.tree_flatten_with_path({'tasks': tasks, 'params': result.params})
  return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in named}


def layout():
  """Returns the spec of every array of a first state by path, under the rule of `layouts`."""
  state = loop.initial_state(
    layouts.start(), optax.adam(0.1), (), jax.random.key(0), placement=layouts.placement()
  )
  return {name: str(x.sharding.spec) for name, x in layouts.named(state).items()}


def moved(folder):
  """Goes on from one device's checkpoint, and leaves one of its own for one device."""
  layouts.run(folder / 'from_one')
  layouts.run(folder / 'from_eight', HALF)
  return layout()


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return tmp_path_factory.mktemp('devices')


@pytest.fixture(scope='module')
def both(folder):
  layouts.run(folder / 'from_one', HALF)
  process = layouts.elsewhere(__file__, folder, num_devices=NUM_DEVICES)
  one = trained()
  assert process.wait(timeout=180) == 0
  with np.load(folder / 'eight.npz') as eight:
    return one, dict(eight)


@pytest.fixture(scope='module')
def plain(folder):
  """Parameters of a run of `layouts` that stayed on one device."""
  return layouts.named(layouts.run(folder / 'plain').params)


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


def test_a_rule_divides_parameters_with_their_moments_and_nothing_else(both):
  _, eight = both
  found = json.loads(str(eight['layout']))
  assert {name for name, spec in found.items() if 'tasks' in spec} == {
    f'{part}.{name}'
    for part in ('params', 'optimizer_state.0.mu', 'optimizer_state.0.nu')
    for name in ('base.w', 'table')
  }


@pytest.mark.parametrize('name', ['from_one', 'from_eight'])
def test_a_run_goes_on_with_another_number_of_devices(folder, both, plain, name):
  result = layouts.run(shutil.copytree(folder / name, folder / 'copy' / name))
  layouts.assert_close(layouts.named(result.params), plain)
  assert result.params['table'].tobytes() == np.asarray(layouts.start()['table']).tobytes()


def test_a_flipped_byte_of_what_eight_devices_wrote_is_found_on_one(folder, both, caplog):
  workdir = shutil.copytree(folder / 'from_one', folder / 'flipped')
  for path in (workdir / 'checkpoints' / '8' / 'state').rglob('d/*'):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
  result = layouts.run(workdir)
  assert any(line.startswith('checkpoint 8 of') for line in caplog.messages)
  assert (workdir / SET_ASIDE / '8').is_dir() and result.best_step == 8


def test_a_sharding_that_does_not_fit_names_the_array():
  odd = devices.place({'w': np.zeros((4, 2))}, devices.task_mesh())
  with pytest.raises(ValueError, match=r'the sharding .*model.* does not fit params\.w: '):
    devices.place(odd, devices.task_mesh(), lambda *_: PartitionSpec('model'), root='params')


if __name__ == '__main__':
  assert jax.device_count() == NUM_DEVICES
  folder = pathlib.Path(sys.argv[1])
  layout = json.dumps(moved(folder))
  np.savez(folder / 'eight.npz', **trained(), program=program(), layout=layout)
