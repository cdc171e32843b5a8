import gc

import pytest


@pytest.fixture(scope='module')
def abandoned_reads():
  """Collects what reads of damaged files left behind, while their warnings are still ignored."""
  yield
  gc.collect()
