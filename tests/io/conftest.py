import gc
import shutil

import pytest
from saved_states import CONFIG, state

from metapers.io.checkpoints import Checkpoints


@pytest.fixture(scope='module')
def abandoned_reads():
  """Collects what reads of damaged files left behind, while their warnings are still ignored."""
  yield
  gc.collect()


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
