import pathlib
import sys

import made_studies
import pytest

from metapers.collect import check
from metapers.collect.study import DATABASE

COMMAND = [sys.executable, '-m', 'experiments.collect']
ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.slow
def test_a_kill_loses_no_acknowledged_answer_and_doubles_none(tmp_path, monkeypatch):
  monkeypatch.chdir(ROOT)
  words = ('--model=none', '--rule=random', '--questions=12')
  server = check.Served(COMMAND, tmp_path / 'study', *words)
  kill = check.kill_while_answered(server, 2, 8 * 12)
  sent = check.take_part(server.address, 8, think=0.1, most=12, meanwhile=kill)
  server.close()
  known, lost, doubled = check.lost_and_doubled(tmp_path / 'study' / DATABASE, sent)
  assert known >= 8 * 12 - 2 and (lost, doubled) == (0, 0)


def test_a_server_that_cannot_begin_says_why(tmp_path, monkeypatch, capfd):
  monkeypatch.chdir(ROOT)
  with pytest.raises(ValueError, match='the server ended'):
    check.Served(COMMAND, tmp_path / 'study', '--model=none', '--host=0.0.0.0')
  said = capfd.readouterr().err
  assert '--open says that this is meant' in said and 'not encrypted' in said


def test_lost_and_doubled_answers_are_found(tmp_path):
  study = made_studies.open_study(tmp_path)
  _, user = made_studies.enrol(study)
  made_studies.answer(study, user, key='a kept answer')
  sent = check.Sent({'somebody': ['a kept answer', 'one that was lost']}, [], [])
  assert check.lost_and_doubled(tmp_path / 'study' / DATABASE, sent) == (2, 1, 0)
  study.store.rows('DROP INDEX one_answer')
  study.store.rows(
    'INSERT INTO answers (participant, question, key, answer, time) '
    "SELECT participant, question, 'twice', answer, time FROM answers"
  )
  assert check.lost_and_doubled(tmp_path / 'study' / DATABASE, sent)[2] == 1
  study.store.close()
