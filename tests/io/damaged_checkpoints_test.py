import logging
import os
import shutil
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
import saved_states
from saved_states import CONFIG, assert_same, state

from metapers.io.checkpoints import SET_ASIDE, Checkpoints

KILLED = 9
pytestmark = saved_states.READS_DAMAGED_FILES


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
  truncate, zero, empty, flip_first, flip_middle, remove_data, remove_manifest,
  remove_state, remove_description, alter_score, alter_checksum,
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


def test_every_flipped_byte_of_the_data_is_found(workdir):
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


def test_a_damaged_best_is_not_used(workdir, opened):
  flip_middle(workdir / 'checkpoints' / '1')
  assert opened.best(state(0)).step == 2


def test_without_an_intact_one_there_is_no_fresh_start(workdir, opened):
  for step in (1, 2, 3):
    truncate(workdir / 'checkpoints' / str(step))
  with pytest.raises(ValueError, match=r'is intact \(found: \[3, 2, 1\]\); restore them from'):
    opened.restore(state(0))
  assert not (workdir / SET_ASIDE).exists()


def test_lost_checkpoints_are_no_fresh_start(workdir):
  shutil.rmtree(workdir / 'checkpoints')
  checkpoints = Checkpoints(workdir, CONFIG)
  with pytest.raises(ValueError, match=r'is intact \(found: \[\]\)'):
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


@pytest.mark.parametrize('damage', ['cut', 'remove'])
def test_whatever_file_is_cut_short_or_lost_the_state_is_right_or_refused(workdir, damage):
  folder = workdir / 'checkpoints' / '3'
  checkpoints = Checkpoints(workdir, CONFIG, read_only=True)
  files = [path for path in folder.rglob('*') if path.is_file() and path.stat().st_size]
  steps = set()
  for path in files:
    whole = path.read_bytes()
    if damage == 'cut':
      path.write_bytes(whole[: len(whole) // 2])
    else:
      path.unlink()
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


if __name__ == '__main__':
  # So large that the save, which has only begun, cannot end before the process does.
  Checkpoints(sys.argv[1], CONFIG).save(1, jnp.zeros((4096, 4096)))
  os._exit(KILLED)
