import pytest


@pytest.fixture(scope='session')
def folder(tmp_path_factory):
  """Returns a folder of episodes with references; do not change it."""
  import exported

  from metapers.bench import freezing

  path = tmp_path_factory.mktemp('frozen') / 'episodes'
  return freezing.export_episodes(
    exported.table(), path, licence='none', num_train_users=7, log=exported.quiet
  )
