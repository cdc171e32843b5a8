import subprocess
import sys

import pytest

from metapers import learners
from metapers.learners import pooled

SOURCE = """
from metapers.learners import pooled

VERSION = 1


def mine(num_features, *, hidden=(3,)):
  return pooled.pooled(num_features, hidden=hidden)
"""


@pytest.fixture
def file(tmp_path):
  path = tmp_path / 'mine.py'
  path.write_text(SOURCE)
  return path


def test_the_table_imports_no_learner_until_it_is_asked_for():
  code = (
    'import sys; import metapers.learners as l; '
    "assert not [m for m in sys.modules if m.startswith('metapers.learners.')]; "
    "assert 'flax' not in sys.modules; "
    "l.factory('low_rank'); assert 'metapers.learners.low_rank' in sys.modules; "
    "assert 'metapers.learners.gradient' not in sys.modules"
  )
  subprocess.run([sys.executable, '-c', code], check=True)


@pytest.mark.parametrize('name', learners.LEARNERS)
def test_every_name_has_a_factory_of_that_name(name):
  assert learners.factory(name).__name__ == name


def test_a_learner_is_built_by_name_or_by_factory():
  by_name = learners.make('pooled', num_features=3)
  assert type(by_name) is type(learners.make(pooled.pooled, num_features=3))


def test_an_unknown_learner_lists_the_known():
  with pytest.raises(ValueError, match="unknown learner 'maaml'; known: pooled, per_user, maml"):
    learners.make('maaml', num_features=3)


def test_an_unknown_argument_lists_the_known():
  with pytest.raises(ValueError, match='pooled takes no depth; it takes num_features, hidden'):
    learners.make('pooled', num_features=3, depth=1)


def test_a_factory_comes_from_a_file(file):
  mine = learners.from_file(f'{file}:mine')
  learners.make(mine, num_features=3, hidden=(2,))
  with pytest.raises(ValueError, match='mine takes no depth; it takes num_features, hidden'):
    learners.make(mine, num_features=3, depth=1)


def test_the_same_contents_give_the_same_factory_and_others_another(file):
  first = learners.from_file(f'{file}:mine')
  assert learners.from_file(f'{file}:mine') is first
  file.write_text(SOURCE.replace('VERSION = 1', 'VERSION = 2'))
  assert learners.from_file(f'{file}:mine') is not first


def test_a_file_that_fails_is_not_found_half_made(file):
  file.write_text(SOURCE + '\nraise RuntimeError("no")')
  for _ in range(2):
    with pytest.raises(RuntimeError, match='no'):
      learners.from_file(f'{file}:mine')


@pytest.mark.parametrize('name', ['mine', 'FILE.py', 'FILE.py:', 'FILE.txt:mine', ':mine', 'a b:c'])
def test_a_location_of_another_form_is_refused(name):
  with pytest.raises(ValueError, match='expected PATH'):
    learners.from_file(name)


def test_a_missing_file_or_name_is_named(file):
  with pytest.raises(ValueError, match=r'there is no file .*nowhere\.py'):
    learners.from_file('nowhere.py:mine')
  with pytest.raises(ValueError, match="defines no function 'yours'; it defines mine"):
    learners.from_file(f'{file}:yours')
  with pytest.raises(ValueError, match="defines no function 'VERSION'"):
    learners.from_file(f'{file}:VERSION')


def test_a_name_alone_never_imports_a_file(file):
  file.write_text('raise AssertionError("this must not run")')
  for make in (learners.make, learners.factory):
    with pytest.raises(ValueError, match=r'load it yourself with metapers\.learners\.from_file'):
      make(f'{file}:mine')
