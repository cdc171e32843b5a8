import resource
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import saved_states
from saved_states import CONFIG, assert_same, state

from metapers.core import files
from metapers.io.checkpoints import SET_ASIDE, Checkpoints, InMemory

pytestmark = saved_states.READS_DAMAGED_FILES


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
  with pytest.raises(ValueError, match=r'holds no run|another config'):
    Checkpoints(tmp_path, CONFIG, read_only=True)


def test_to_keep_none_is_refused(tmp_path):
  with pytest.raises(ValueError, match='keep must be at least 1'):
    Checkpoints(tmp_path, CONFIG, keep=0)


@pytest.mark.parametrize(
  ('params', 'difference'),
  [
    ({'w': jnp.zeros((2, 64))}, r'params.w: float32\[64, 64\] there, float32\[2, 64\] here'),
    ({'half': jnp.zeros(64)}, r'params.half: bfloat16\[64\] there, float32\[64\] here'),
    ({'v': jnp.zeros(1)}, r'params.v: absent there, float32\[1\] here'),
  ],
)
def test_a_state_of_another_form_is_reported_as_changed_code(opened, workdir, params, difference):
  other = state(0)
  with pytest.raises(ValueError, match=f'{difference}.*the code has changed'):
    opened.restore(other._replace(params={**other.params, **params}))
  assert not (workdir / SET_ASIDE).exists()


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


def test_a_full_disk_leaves_the_newest_checkpoint(opened, monkeypatch):
  left = shutil.disk_usage(opened._folder)._replace(free=1000)
  with monkeypatch.context() as patch, pytest.raises(OSError, match='No space left') as caught:
    patch.setattr(shutil, 'disk_usage', lambda path: left)
    opened.save(4, state(4))
  assert files.is_disk_full(caught.value)
  assert opened.restore(state(0)).step == 3
  opened.save(4, state(4))
  assert opened.restore(state(0)).step == 4


def test_a_write_that_fails_leaves_the_newest_checkpoint(workdir):
  checkpoints = Checkpoints(workdir, CONFIG)
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
  try:
    with pytest.raises((OSError, ValueError)):
      checkpoints.save(4, state(4))
      checkpoints.wait()
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  again = Checkpoints(workdir, CONFIG)
  assert again.restore(state(0)).step == 3
  again.close()
