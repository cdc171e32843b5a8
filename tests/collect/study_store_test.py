import pathlib
import sqlite3
import tempfile

import hypothesis
import made_studies
import numpy as np
import pytest
from hypothesis import strategies as st

from metapers.collect import export, summary
from metapers.collect import study as studies
from metapers.collect.settings import Settings
from metapers.collect.store import Answer, Conflict, Store
from metapers.data import comparisons


@pytest.fixture
def study(tmp_path):
  opened = made_studies.open_study(tmp_path)
  yield opened
  opened.store.close()


def test_an_answer_sent_again_is_kept_once(study):
  _, user = made_studies.enrol(study)
  question = study.progress(user).open
  given = Answer('choice', 'the same key', 0)
  assert study.answer(user, question.id, given)
  assert not study.answer(user, question.id, given)
  with pytest.raises(Conflict, match='with another answer'):
    study.answer(user, question.id, given._replace(choice=1))
  assert len(study.progress(user).answered) == 1


def test_a_second_tab_cannot_answer_the_same_question(study):
  _, user = made_studies.enrol(study)
  question = made_studies.answer(study, user)
  with pytest.raises(Conflict, match='not open'):
    study.answer(user, question.id, Answer('skip', 'of another tab'))


def test_a_question_of_somebody_else_is_refused(study):
  _, one = made_studies.enrol(study)
  _, other = made_studies.enrol(study)
  theirs = study.progress(other).open
  study.progress(one)
  with pytest.raises(Conflict, match='not open'):
    study.answer(one, theirs.id, Answer('skip', 'some key'))
  made_studies.answer(study, other)
  (answered,) = study.progress(other).answered
  with pytest.raises(Conflict, match='only the last'):
    study.undo(one, answered.answer.id)


@pytest.mark.parametrize('again', [False, True])
def test_a_question_chosen_after_an_answer_that_was_undone_meanwhile_is_not_asked(
  study, monkeypatch, again
):
  _, user = made_studies.enrol(study)
  study.plan = study.plan._replace(guide=made_studies.Guide())  # follows the choices
  for _ in range(2):
    made_studies.answer(study, user, 'choice', 1)
  chosen, next_batch = [], studies.assignment.next_batch

  def slow(plan, participant, history):
    chosen.append(next_batch(plan, participant, history))
    if len(chosen) == 1:  # meanwhile, in another tab
      study.undo(user, history[-1].answer.id)
      if again:
        study.answer(user, history[-1].id, Answer('skip', 'given anew'))
    return chosen[-1]

  monkeypatch.setattr(studies.assignment, 'next_batch', slow)
  stands = study.progress(user)
  assert len(stands.history) == 2 + again and stands.open == stands.history[-1]
  assert len(chosen) == 1 + again


@hypothesis.settings(max_examples=25)
@hypothesis.example(['0', '0', 'undo', '1', '0', 'undo', 'undo', '0', '1'], 1)
@hypothesis.example(['0', '0', '0', '0', 'undo', 'undo', '1', '1', '1'], 3)
@hypothesis.given(
  st.lists(st.sampled_from(['0', '1', 'same', 'undo', 'again']), max_size=14),
  st.sampled_from([1, 3]),
)
def test_after_any_undos_a_study_is_as_if_nothing_had_been_undone(steps, batch_size):
  asked = Settings(num_questions=8, batch_size=batch_size, control_share=0.1, repeat_share=0.1)
  with tempfile.TemporaryDirectory() as place:
    study = made_studies.open_study(pathlib.Path(place), asked)
    study.plan = study.plan._replace(guide=made_studies.Guide())  # follows the choices
    _, user = made_studies.enrol(study)
    stands, keys = [], iter(range(100))
    for step in steps:
      progress = study.progress(user)
      if step == 'undo' and stands:
        last = progress.answered[-1].answer.id
        assert study.undo(user, last) and not study.undo(user, last)
        stands.pop()
      elif step == 'again' and stands:
        last = progress.answered[-1]
        assert not study.answer(user, last.id, last.answer)
      elif step in ('0', '1', 'same') and progress.open:
        kind, choice = ('same', None) if step == 'same' else ('choice', int(step))
        study.answer(user, progress.open.id, Answer(kind, f'key {next(keys)}', choice))
        stands.append((kind, choice))
    found = study.progress(user)
    assert [(q.answer.answer, q.answer.choice) for q in found.answered] == stands
    fresh = []
    for kind, choice in stands:
      if len(fresh) % batch_size == 0:
        batch = studies.assignment.next_batch(study.plan, user, fresh)
      question = batch[len(fresh) % batch_size]
      fresh.append(question._replace(id=len(fresh) + 1, answer=Answer(kind, '', choice)))
    assert [q.items for q in found.answered] == [q.items for q in fresh]
    assert [q.shown for q in found.answered] == [q.shown for q in fresh]
    study.store.close()


NAMES = ('choice', 'same', 'choice', 'skip', 'choice', 'both_bad', 'choice', 'choice')


def test_a_deleted_participant_is_gone_from_the_file_and_from_exports(study, tmp_path):
  _, user = made_studies.enrol(study)
  _, other = made_studies.enrol(study)
  for _ in range(3):
    made_studies.answer(study, user, key=f'key of the deleted {len(study.progress(user).answered)}')
    made_studies.answer(study, other)
  assert study.store.delete(user)
  assert not study.store.delete(user)
  folder = export.write_tables(study.store, tmp_path / 'study', tmp_path / 'out')
  assert 'p1,' not in (folder / 'answers.csv').read_text()
  assert 'p2,' in (folder / 'answers.csv').read_text()
  study.store.close()
  for path in (tmp_path / 'study').glob('study.sqlite*'):
    assert b'key of the deleted' not in path.read_bytes(), path


def test_the_export_is_read_as_people(study, tmp_path):
  _, user = made_studies.enrol(study)
  asked = [made_studies.answer(study, user, what) for what in NAMES]
  assert study.progress(user).open is None
  folder = export.write_tables(study.store, tmp_path / 'study', tmp_path / 'out')
  export.write_tables(study.store, tmp_path / 'study', folder)  # and again in its place
  found = comparisons.load_comparisons(str(folder), min_comparisons=1)
  chosen = [found.item_ids[row] for row in found.chosen[0][found.mask[0]]]
  wanted = [
    question.items[0]
    for question, what in zip(asked, 'csxcsxcc')
    if question.kind != 'attention' and asked.index(question) in (0, 2, 4, 6, 7)
  ]
  assert chosen == wanted
  assert found.user_ids.tolist() == ['p1']
  assert found.outcome is None
  everything = comparisons.load_comparisons(str(folder), min_comparisons=1, ties='outcomes')
  expected = [
    {'same': 1, 'both_bad': 2}.get(what, 0)
    for question, what in zip(asked, NAMES)
    if question.kind != 'attention' and what != 'skip'
  ]
  assert everything.outcome is not None
  assert everything.outcome[0][everything.mask[0]].tolist() == expected
  lines = (folder / 'answers.csv').read_text().splitlines()
  assert len(lines) == 9 and ',both_bad,' in lines[6]
  with pytest.raises(ValueError, match='no export of a study'):
    export.write_tables(study.store, tmp_path / 'study', tmp_path / 'items')


def test_a_study_goes_on_as_it_began(study, tmp_path):
  _, user = made_studies.enrol(study)
  made_studies.answer(study, user)
  study.store.close()
  again = studies.open_study(tmp_path / 'study')
  assert again.settings == studies.settings_in(tmp_path / 'study') == made_studies.FEW
  assert len(again.progress(user).answered) == 1
  again.store.close()
  with pytest.raises(ValueError, match='another num_questions'):
    studies.open_study(tmp_path / 'study', asked=Settings(num_questions=9))
  others = made_studies.write_items(tmp_path / 'others', [f'other {n}' for n in range(12)])
  with pytest.raises(ValueError, match='other items'):
    studies.open_study(tmp_path / 'study', items=others)
  with pytest.raises(ValueError, match='holds no study'):
    studies.open_study(tmp_path / 'nothing')
  assert studies.settings_in(tmp_path / 'nothing') == Settings()


def test_a_file_that_is_no_study_is_refused(tmp_path):
  path = tmp_path / 'study.sqlite'
  path.write_bytes(b'not a database at all, but long enough to be looked at' * 20)
  with pytest.raises(ValueError, match='is no study'):
    Store(path)


def test_a_full_disk_takes_no_half_of_an_answer(study):
  _, user = made_studies.enrol(study)
  question = study.progress(user).open
  with study.store._lock:
    pages = study.store.rows('PRAGMA page_count')[0][0]
    study.store.rows(f'PRAGMA max_page_count = {pages}')
  with pytest.raises(sqlite3.OperationalError, match='full'):
    for number in range(200):
      study.store.say(f'filler {number}', 'x' * 2000)
  study.store.rows('PRAGMA max_page_count = 1000000')
  assert study.answer(user, question.id, Answer('choice', 'the key', 0))
  assert len(study.progress(user).answered) == 1


def test_tokens_are_kept_hashed_alone(study, tmp_path):
  token, _ = made_studies.enrol(study)
  secret = study.store.new_token()
  assert study.store.is_admin(secret) and not study.store.is_admin(token)
  study.store.close()
  for path in (tmp_path / 'study').glob('study.sqlite*'):
    assert token.encode() not in path.read_bytes() and secret.encode() not in path.read_bytes()


def test_shares_have_intervals_over_people():
  rng = np.random.default_rng(0)
  covered = 0
  for _ in range(300):
    people = [rng.uniform(size=8) < chance for chance in rng.beta(4, 2, size=20)]
    found = summary.share([own.tolist() for own in people])
    covered += found.low <= 4 / 6 <= found.high
  assert covered >= 0.9 * 300
  assert summary.share([]).count == 0
  alone = summary.share([[True] * 5])
  assert alone.low < 0.1 and alone.high == 1


def test_people_who_are_all_alike_have_no_interval_of_no_width():
  for people in range(2, 12):
    for count in range(2, 25):
      for right in range(count + 1):
        own = [True] * right + [False] * (count - right)
        found = summary.share([own, own + own] * people)  # the same share of another count
        assert found.high - found.low > 0.1, (people, count, right)


def test_a_study_that_began_with_what_is_refused_today_goes_on(tmp_path):
  asked = Settings(num_questions=6, batch_size=4, pool_size=4)
  study = made_studies.open_study(tmp_path, asked)
  study.store.say('settings', study.settings._asdict() | {'pool_size': 3, 'control_share': 0})
  study.store.close()
  again = studies.open_study(tmp_path / 'study')
  assert (again.settings.pool_size, again.settings.batch_size) == (3, 4)
  _, user = made_studies.enrol(again)
  for _ in range(3):
    made_studies.answer(again, user, 'choice', 0)
  assert again.progress(user).open is None  # a batch that was not filled is the last one
  again.store.close()
  with pytest.raises(ValueError, match='pool_size must be at least batch_size, 4'):
    studies.open_study(tmp_path / 'other', items=tmp_path / 'items', asked=again.settings)
