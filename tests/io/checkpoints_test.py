import logging
import os
import shutil
import subprocess
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metapers.io.checkpoints import SET_ASIDE, Checkpoints, InMemory

CONFIG = {'learner': 'any'}
KILLED = 9
# Reads of damaged files that tensorstore gives up come back to an event loop that orbax closed.
pytestmark = pytest.mark.filterwarnings(
  'ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning'
)


class State(NamedTuple):
  step: jax.Array
  key: jax.Array
  params: dict
  nothing: tuple


def state(step):
  # Large enough for a data file of its own, so that there is something to damage.
  w = jax.random.normal(jax.random.key(step), (64, 64))
  params = {'w': w, 'half': w[0].astype(jnp.bfloat16), 'none': jnp.zeros((0,))}
  return State(jnp.asarray(step), jax.random.key(step), params, ())


def assert_same(one, other):
  assert jax.tree.structure(one) == jax.tree.structure(other)
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other)):
    assert a.dtype == b.dtype
    if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
      a, b = jax.random.key_data(a), jax.random.key_data(b)
    assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
  """A workdir with checkpoints 2 and 3 and the best, 1."""
  workdir = tmp_path_factory.mktemp('saved')
  checkpoints = Checkpoints(workdir, CONFIG)
  for step in (0, 1, 2, 3):
    checkpoints.save(step, state(step), score=-abs(step - 1.0))
  checkpoints.close()
  return workdir


@pytest.fixture
def workdir(saved, tmp_path):
  return shutil.copytree(saved, tmp_path / 'run')


@pytest.fixture
def opened(workdir):
  checkpoints = Checkpoints(workdir, CONFIG)
  yield checkpoints
  checkpoints.close()


def test_a_state_comes_back_bit_for_bit(opened):
  found = opened.restore(state(0))
  assert (found.step, found.score) == (3, -2.0)
  assert_same(found.state, state(3))


def test_the_last_ones_and_the_best_are_kept_over_restarts(workdir, opened):
  assert {path.name for path in (workdir / 'checkpoints').iterdir()} == {'1', '2', '3'}
  opened.restore(state(0))
  for step in (4, 5):
    opened.save(step, state(step))
  assert_same(opened.best(state(0)).state, state(1))
  assert {path.name for path in (workdir / 'checkpoints').iterdir()} == {'1', '4', '5'}
  opened.save(6, state(6), score=0.0)  # as good as the best: the later one is the best
  assert opened.best(state(0)).step == 6


def test_a_key_keeps_its_kind(tmp_path):
  checkpoints, key = Checkpoints(tmp_path, CONFIG), jax.random.key(3, impl='rbg')
  checkpoints.save(1, key)
  checkpoints.wait()
  assert checkpoints.restore(key).state == key
  checkpoints.close()


def data(step):
  # Orbax keeps the arrays twice; which of the files it reads is its affair.
  return [path for path in (step / 'state').rglob('d/*') if path.is_file()]


def truncate(step):
  for path in data(step):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def zero(step):
  for path in data(step):
    path.write_bytes(bytes(path.stat().st_size))


def flip(path, position):
  content = bytearray(path.read_bytes())
  content[position] ^= 4
  path.write_bytes(content)


def flip_first(step):
  for path in data(step):
    flip(path, 0)


def flip_middle(step):
  for path in data(step):
    flip(path, path.stat().st_size // 2)


def empty(step):
  for path in data(step):
    path.write_bytes(b'')


def remove_data(step):
  for path in data(step):
    path.unlink()


def remove_array_metadata(step):
  (step / 'state' / '_METADATA').unlink()


def remove_manifest(step):
  (step / 'state' / 'manifest.ocdbt').unlink()


def remove_state(step):
  shutil.rmtree(step / 'state')


def remove_description(step):
  shutil.rmtree(step / 'about')


def alter_score(step):
  path = step / 'about' / 'metadata'
  content = path.read_text()
  assert '"score": -2.0' in content
  path.write_text(content.replace('"score": -2.0', '"score": 12.0'))


def alter_checksum(step):
  path = step / 'about' / 'metadata'
  flip(path, path.read_bytes().index(b'params.w') + 20)


DAMAGES = [
  truncate, zero, empty, flip_first, flip_middle, remove_data, remove_array_metadata,
  remove_manifest, remove_state, remove_description, alter_score, alter_checksum,
]  # fmt: skip


@pytest.mark.parametrize('damage', DAMAGES, ids=lambda function: function.__name__)
def test_a_damaged_newest_is_named_and_the_one_before_it_used(workdir, caplog, damage):
  damage(workdir / 'checkpoints' / '3')
  checkpoints = Checkpoints(workdir, CONFIG)
  with caplog.at_level(logging.WARNING, 'absl'):
    found = checkpoints.restore(state(0))
  assert found.step == 2
  assert_same(found.state, state(2))
  assert any(line.startswith('checkpoint 3 of') for line in caplog.messages)
  assert (workdir / SET_ASIDE / '3').is_dir()
  checkpoints.save(3, state(3), score=-2.0)
  checkpoints.wait()
  assert_same(checkpoints.restore(state(0)).state, state(3))
  assert_same(checkpoints.best(state(0)).state, state(1))
  checkpoints.close()


def test_no_flipped_byte_of_the_data_is_believed(workdir):
  checkpoints = Checkpoints(workdir, CONFIG)
  path = max(data(workdir / 'checkpoints' / '2'), key=lambda path: path.stat().st_size)
  whole = path.read_bytes()
  truncate(workdir / 'checkpoints' / '3')
  for position in np.linspace(0, len(whole) - 1, 15).astype(int):
    flip(path, position)
    found = checkpoints.best(state(0))
    assert found.step == 1
    path.write_bytes(whole)
  checkpoints.close()


def test_several_damaged_ones_are_skipped(workdir):
  for step in (2, 3):
    truncate(workdir / 'checkpoints' / str(step))
  checkpoints = Checkpoints(workdir, CONFIG)
  assert checkpoints.restore(state(0)).step == 1
  checkpoints.close()


def test_a_damaged_best_is_not_believed(workdir, opened):
  flip_middle(workdir / 'checkpoints' / '1')
  assert opened.best(state(0)).step == 2


def test_without_a_whole_one_there_is_no_fresh_start(workdir, opened):
  for step in (1, 2, 3):
    truncate(workdir / 'checkpoints' / str(step))
  with pytest.raises(ValueError, match=r'none is whole \(found: \[3, 2, 1\]\); restore them from'):
    opened.restore(state(0))
  assert not (workdir / SET_ASIDE).exists()


def test_lost_checkpoints_are_no_fresh_start(workdir):
  shutil.rmtree(workdir / 'checkpoints')
  checkpoints = Checkpoints(workdir, CONFIG)
  with pytest.raises(ValueError, match=r'none is whole \(found: \[\]\)'):
    checkpoints.restore(state(0))
  checkpoints.close()


def test_a_first_save_that_was_killed_is_a_fresh_start(tmp_path):
  died = subprocess.run([sys.executable, __file__, tmp_path], timeout=60, check=False)
  assert died.returncode == KILLED
  checkpoints = Checkpoints(tmp_path, CONFIG)
  assert checkpoints.restore(state(0)) is None
  checkpoints.save(1, state(1))
  checkpoints.wait()
  assert_same(checkpoints.restore(state(0)).state, state(1))
  checkpoints.close()


def test_of_whatever_file_is_cut_short_the_state_is_right_or_refused(workdir):
  folder = workdir / 'checkpoints' / '3'
  checkpoints = Checkpoints(workdir, CONFIG, read_only=True)
  files = [path for path in folder.rglob('*') if path.is_file() and path.stat().st_size]
  steps = set()
  for path in files:
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    found = checkpoints.restore(state(0))
    assert_same(found.state, state(found.step))
    steps.add(found.step)
    path.write_bytes(whole)
  assert steps == {2, 3}
  checkpoints.close()


def test_a_damaged_best_is_set_aside_and_the_next_best_kept(workdir):
  flip_middle(workdir / 'checkpoints' / '1')
  checkpoints = Checkpoints(workdir, CONFIG)
  assert checkpoints.restore(state(0)).step == 3
  for step in (4, 5, 6):
    checkpoints.save(step, state(step), score=-9.0)
  assert checkpoints.best(state(0)).step == 2
  checkpoints.close()
  assert (workdir / SET_ASIDE / '1').is_dir()


def listing(folder):
  return {path: path.stat().st_mtime_ns for path in folder.rglob('*')}


def test_read_only_changes_nothing_on_disk(workdir):
  truncate(workdir / 'checkpoints' / '3')
  under_way = workdir / 'checkpoints' / '4.orbax-checkpoint-tmp'
  shutil.copytree(workdir / 'checkpoints' / '2', under_way)
  before = listing(workdir)
  checkpoints = Checkpoints(workdir, CONFIG, read_only=True)
  assert checkpoints.restore(state(0)).step == 2
  assert checkpoints.best(state(0)).step == 1
  with pytest.raises(ValueError, match='opened with read_only=True'):
    checkpoints.save(5, state(5))
  checkpoints.close()
  assert listing(workdir) == before


def test_read_only_finds_nothing_before_the_first_save(tmp_path):
  Checkpoints(tmp_path, CONFIG).close()
  checkpoints = Checkpoints(tmp_path, CONFIG, read_only=True)
  assert checkpoints.best(state(0)) is None
  assert checkpoints.restore(state(0)) is None
  checkpoints.close()


@pytest.mark.parametrize('config', [None, {'learner': 'other'}])
def test_read_only_refuses_a_workdir_of_another_config_or_none(tmp_path, config):
  if config:
    Checkpoints(tmp_path, config).close()
  with pytest.raises(ValueError, match=r'does not exist|another config'):
    Checkpoints(tmp_path, CONFIG, read_only=True)


def test_to_keep_none_is_refused(tmp_path):
  with pytest.raises(ValueError, match='keep must be at least 1'):
    Checkpoints(tmp_path, CONFIG, keep=0)


def test_a_state_of_another_form_is_refused(opened):
  other = state(0)
  with pytest.raises(ValueError, match='none is whole'):
    opened.restore(other._replace(params={**other.params, 'w': jnp.zeros((2, 64))}))


def test_a_workdir_of_another_config_is_refused(workdir):
  with pytest.raises(ValueError, match='learner: any there, other now'):
    Checkpoints(workdir, {'learner': 'other'})


def test_in_memory_keeps_a_copy_of_the_best():
  kept, params = InMemory(), np.zeros(3)
  assert kept.best(params) is None
  for step, score in ((1, 0.0), (2, 5.0), (3, 5.0), (4, 1.0), (5, None)):
    kept.save(step, params + step, score=score)
  assert (kept.best(params).step, kept.best(params).score) == (3, 5.0)
  np.testing.assert_array_equal(kept.best(params).state, np.full(3, 3.0))


if __name__ == '__main__':
  # So large that the save, which has only begun, cannot end before the process does.
  Checkpoints(sys.argv[1], CONFIG).save(1, jnp.zeros((4096, 4096)))
  os._exit(KILLED)
