import subprocess

import jax

from metapers.io import versions


def test_packages_and_the_commit_of_a_clone_are_named(tmp_path):
  found = versions.versions()
  assert found['jax'] == jax.__version__ and found['python'].startswith('3.')
  assert versions.commit_of(tmp_path) == ''

  def git(*arguments):
    who = ('-c', 'user.name=me', '-c', 'user.email=me@example.org')
    command = ['git', '-C', str(tmp_path), *who, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

  git('init', '--quiet')
  (tmp_path / 'a').write_text('1')
  git('add', 'a')
  git('commit', '--quiet', '--message=first')
  assert versions.commit_of(tmp_path) == git('rev-parse', '--short', 'HEAD')
  (tmp_path / 'a').write_text('2')
  assert versions.commit_of(tmp_path) == git('rev-parse', '--short', 'HEAD') + '-dirty'


def test_where_git_is_not_here_there_is_no_commit(tmp_path, monkeypatch):
  (tmp_path / '.git').mkdir()
  monkeypatch.setenv('PATH', '')
  assert versions.commit_of(tmp_path) == ''
