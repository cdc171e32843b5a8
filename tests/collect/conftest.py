import pytest


@pytest.fixture
def site(tmp_path):
  import sites  # not above: see tests/conftest.py

  made = sites.Site(tmp_path)
  yield made
  made.study.store.close()


@pytest.fixture(scope='module')
def modelled(tmp_path_factory):
  import sites

  made = sites.Site(tmp_path_factory.mktemp('modelled'), with_model=True)
  yield made
  made.study.store.close()
