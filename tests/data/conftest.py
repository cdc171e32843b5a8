import pytest
from small_stores import PROVENANCE, TABLE

from metapers.data import feature_store


@pytest.fixture
def store(tmp_path):
  return feature_store.write_store(tmp_path / 'store', TABLE, PROVENANCE)
