"""What was deleted, forgotten or replaced is in no byte of the study's files."""

import shutil
import sqlite3
import struct

import made_studies
import pytest
from interfaces import Interface

from metapers.collect import study as studies
from metapers.collect.store import Answer

IDS = 0x1122334455667788, 0x0102030405060708, 0x0807060504030201


def clicks(*ids):
  """Comparisons of those ids."""
  return [{'chosen': f'i{n}', 'rejected': f'i{n + 6}', 'id': one} for n, one in enumerate(ids)]


def traces(folder, content):
  """Returns in which of a study's files some bytes are."""
  files = (folder / 'study').glob('study.sqlite*')
  return [path.name for path in files if content in path.read_bytes()]


def of(number):
  """Returns a number as a profile holds it."""
  return struct.pack('<q', number)


@pytest.fixture
def api(tmp_path):
  import sites  # not above: see tests/conftest.py

  made = sites.Site(tmp_path, with_model=True)
  yield Interface(made)
  made.study.store.close()


@pytest.mark.parametrize(
  ('change', 'left'),
  [
    (lambda api: api.call('forget', comparison=IDS[0]), IDS[1:]),
    (lambda api: api.call('adapt', comparisons=clicks(IDS[1])), IDS[1:2]),
    (lambda api: api.client.delete('/api/profiles/ada', headers=api.headers), ()),
  ],
)
def test_what_is_forgotten_replaced_or_deleted_leaves_no_byte(tmp_path, api, change, left):
  api.call('update', comparisons=clicks(*IDS))
  assert all(traces(tmp_path, of(one)) for one in IDS)
  change(api)
  assert [one for one in IDS if traces(tmp_path, of(one))] == list(left)


def test_the_oldest_leave_no_byte_where_there_is_no_room(tmp_path, api):
  api.call('update', comparisons=clicks(*IDS))
  rest = [{'chosen': 'i0', 'rejected': 'i1', 'id': one} for one in range(62)]
  api.call('update', comparisons=rest)
  assert [one for one in IDS if traces(tmp_path, of(one))] == list(IDS[1:])


def test_what_another_process_reads_is_emptied_once_it_ends(tmp_path, caplog):
  study = made_studies.open_study(tmp_path)
  _, user = made_studies.enrol(study)
  _, stays = made_studies.enrol(study)
  asked = study.progress(user).open
  reader = sqlite3.connect(tmp_path / 'study' / 'study.sqlite')
  reader.execute('BEGIN')
  reader.execute('SELECT count(*) FROM answers').fetchall()
  study.answer(user, asked.id, Answer('choice', 'key of the deleted', 0))
  assert study.store.delete(user)
  assert 'another process reads the study' in caplog.text
  made_studies.answer(study, stays)
  assert traces(tmp_path, b'key of the deleted') == ['study.sqlite-wal']
  assert caplog.text.count('another process') == 1
  reader.close()
  made_studies.answer(study, stays)
  assert not traces(tmp_path, b'key of the deleted')
  study.store.close()


def test_what_another_process_reads_is_emptied_at_the_end(tmp_path):
  study = made_studies.open_study(tmp_path)
  _, user = made_studies.enrol(study)
  made_studies.answer(study, user, key='key of the deleted')
  reader = sqlite3.connect(tmp_path / 'study' / 'study.sqlite')
  reader.execute('BEGIN')
  reader.execute('SELECT count(*) FROM answers').fetchall()
  study.store.delete(user)
  reader.execute('ROLLBACK')  # it has read all, and stays: or SQLite would empty the log itself
  study.store.close()
  assert not traces(tmp_path, b'key of the deleted')
  reader.close()


def test_what_a_kill_left_is_emptied_at_the_next_beginning(tmp_path):
  study = made_studies.open_study(tmp_path)
  _, user = made_studies.enrol(study)
  made_studies.answer(study, user, key='key of the deleted')
  with study.store.transaction() as db:
    db.execute('DELETE FROM participants')
  shutil.copytree(tmp_path / 'study', tmp_path / 'killed' / 'study')
  assert traces(tmp_path / 'killed', b'key of the deleted')
  again = studies.kept_in(tmp_path / 'killed' / 'study')
  assert not traces(tmp_path / 'killed', b'key of the deleted')
  again.close()
  study.store.close()
