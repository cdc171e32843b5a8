import pytest


@pytest.fixture(scope='session')
def folder(tmp_path_factory):
  """Returns a folder of episodes with references; do not change it."""
  import exported  # noqa: PLC0415 - what other tests of the bench need not wait for

  from metapers.bench import freezing  # noqa: PLC0415

  path = tmp_path_factory.mktemp('frozen') / 'episodes'
  return freezing.export_episodes(
    exported.table(), path, licence='none', num_train_users=7, log=exported.quiet
  )
