import pytest

from metapers.io.journal import Journal

SHARED = {'shots': (0, 5), 'users': {'tastes': ('short', 'long')}, 'seed': 0}


def add(path, shared, number):
  journal = Journal(path, shared, {'number': int})
  journal.add({'number': number})
  journal.close()


def test_it_goes_on_where_what_it_shares_holds_tuples(tmp_path):
  add(tmp_path / 'j', SHARED, 1)
  add(tmp_path / 'j', SHARED, 2)
  records = Journal(tmp_path / 'j', SHARED, {'number': int}).records
  assert [one['number'] for one in records] == [1, 2]


def test_it_is_of_what_it_was_asked_for(tmp_path):
  add(tmp_path / 'j', SHARED, 1)
  with pytest.raises(
    ValueError, match=r'asked for otherwise \(shots: \[0, 5\] there, \[0, 4\] now'
  ):
    add(tmp_path / 'j', {**SHARED, 'shots': (0, 4)}, 2)


@pytest.mark.parametrize('folder', ['.', 'not/there/yet'])
def test_a_journal_has_one_writer_at_a_time(tmp_path, folder):
  path = tmp_path / folder / 'j'
  first = Journal(path, SHARED, {'number': int})
  with pytest.raises(ValueError, match='is being written by another process'):
    Journal(path, SHARED, {'number': int})
  first.add({'number': 1})
  first.close()
  assert [file.name for file in path.parent.iterdir()] == ['j']
  later = Journal(path, SHARED, {'number': int})
  assert later.records == [{'number': 1}]
  later.close()
