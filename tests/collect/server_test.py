import csv
import io
import logging as stdlib_logging
import re
import sqlite3
import zipfile

import pytest
from absl import logging
from sites import ASKED, Site

from metapers.collect import participation, running


def test_a_participant_answers_all_questions_and_is_thanked(modelled):
  path = modelled.begin()
  for what in ('choice:0', 'same', 'choice:1', 'both_bad', 'skip', 'choice:0'):
    answered, _ = modelled.answer(path, what, strength='2')
    assert (answered.status_code, answered.headers['location']) == (303, path)
  page = modelled.client.get(path).text
  assert 'Thank you' in page and 'expects that you like this one best' in page
  assert page.count('<circle') == 3  # a point for each feature
  history = modelled.study.store.history(modelled.study.store.participant(path[3:]))
  assert [q.answer.strength for q in history] == [2, None, 2, None, None, 2]
  assert {q.answer.duration for q in history} == {1.5}
  again = modelled.client.get(f'{path}/data').text
  assert '6 answers of yours' in again and 'both bad' in again
  for asked in history:
    for chance in asked.predicted or ():
      assert f'{100 * chance:.0f}\xa0%' in again


def test_the_page_of_the_answers_lists_all_that_is_kept_also_what_was_taken_back(tmp_path):
  modelled = Site(tmp_path, ASKED._replace(attention_share=0.0), with_model=True)
  path, store = modelled.begin(), modelled.study.store
  modelled.answer(path, 'same', duration='7.25')
  modelled.answer(path, 'choice:1', strength='3', duration='8.5')
  modelled.fields(path)
  user = store.participant(path[3:])
  _, last, _ = store.history(user)
  modelled.client.post(f'{path}/undo', data={'answer': str(last.answer.id)})
  page = modelled.client.get(f'{path}/data').text
  rows = re.findall(r'<tr><td>.*?</tr>', page)
  assert 'keeps 2 answers of yours' in page and '1 of which you took back' in page
  assert 'of 1 that you have not answered' in page  # the third, which followed from it
  assert [re.search(r'<td>(\d\.\d)</td>', row)[1] for row in rows] == ['7.2', '8.5']
  first, second = (re.findall('<td.*?</td>', row) for row in rows)
  assert 'taken back 20' in second[-1] and 'taken back' not in first[-1]
  assert second[3] == '<td>3</td>'
  assert '%' not in second[2]  # for its question is open again
  modelled.answer(path, 'skip')
  page = modelled.client.get(f'{path}/data').text
  assert f'{100 * last.predicted[0]:.0f}\xa0%' in re.findall(r'<tr><td>.*?</tr>', page)[1]
  assert 'keeps 3 answers of yours' in page and 'of 1 that you' in page
  store.close()


def test_the_page_says_why_a_question_was_asked_and_what_was_predicted(modelled):
  path = modelled.begin()
  assert 'What the model believes' not in modelled.client.get(path).text
  modelled.answer(path)
  page = modelled.client.get(path).text
  assert 'What the model believes' in page
  assert re.search(r'The model had given your last answer \d+ %|About|It only checked', page)
  assert 'Its guess for this question' in page


def test_a_form_sent_again_counts_once_and_one_of_before_is_refused(site):
  path = site.begin()
  first, given = site.answer(path)
  assert site.client.post(f'{path}/answer', data=given).status_code == 303
  assert site.count() == 1
  other_tab = site.client.post(f'{path}/answer', data={**given, 'key': 'another-key'})
  assert other_tab.status_code == 409 and 'Nothing was changed' in other_tab.text
  assert f'href="{path}"' in other_tab.text
  assert first.status_code == 303 and site.count() == 1


def test_an_answer_can_be_undone_and_given_anew(site):
  path = site.begin()
  site.answer(path)
  asked = site.fields(path)['question']
  last = re.search(r'name="answer" value="(\d+)"', site.client.get(path).text)[1]
  for _ in range(2):  # sent twice, it takes back one
    assert site.client.post(f'{path}/undo', data={'answer': last}).status_code == 303
  assert site.count() == 0 and site.fields(path)['question'] != asked
  assert site.client.post(f'{path}/undo', data={'answer': '999'}).status_code == 409
  site.answer(path, 'skip')
  assert site.count() == 1


@pytest.mark.parametrize(
  ('changed', 'status'),
  [
    ({'answer': 'choice:7'}, 400),
    ({'answer': 'choice:-1'}, 400),
    ({'answer': 'choice:'}, 400),
    ({'answer': 'none of it'}, 400),
    ({'answer': "skip'; DROP TABLE answers; --"}, 400),
    ({'key': ''}, 400),
    ({'key': 'x' * 65}, 400),
    ({'question': 'x'}, 400),
    ({'question': '9' * 30}, 400),
    ({'question': '٣'}, 400),
    ({'question': '999'}, 409),
    ({'strength': '9'}, 400),
    ({'answer': 'x' * 10**7}, 413),
  ],
)
def test_forms_that_no_page_of_ours_sends_are_refused(site, changed, status):
  path = site.begin()
  answered, _ = site.answer(
    path, **({'what': 'choice:0'} | {'strength': '1'} | changed_of(changed))
  )
  assert answered.status_code == status
  assert site.count() == 0


def changed_of(changed):
  """`answer` is the argument `what` of `Site.answer`."""
  return {'what' if name == 'answer' else name: value for name, value in changed.items()}


def test_a_long_body_without_a_length_is_cut_off(site):
  path = site.begin()
  pieces = (b'x' * 2**16 for _ in range(160))
  answered = site.client.post(f'{path}/answer', content=pieces)
  assert answered.status_code == 413


def test_questions_of_others_cannot_be_answered(site):
  mine, theirs = site.begin(), site.begin()
  asked = site.fields(theirs)['question']
  site.fields(mine)
  answered, _ = site.answer(mine, question=asked)
  assert answered.status_code == 409 and site.count() == 0


@pytest.mark.parametrize(
  'path',
  ['/p/nobody', '/p/nobody/data', '/static/../store.py', '/static/%2e%2e/schema.sql',
   '/static/..%2f..%2fstore.py', '/p/..%2f..%2fetc', '/admin/nothing', '/study.sqlite'],
)  # fmt: skip
def test_paths_that_lead_nowhere_are_not_found(site, path):
  found = site.client.get(path)
  assert found.status_code == 404
  assert 'CREATE TABLE' not in found.text and 'import' not in found.text


def test_markup_in_texts_is_shown_and_never_run(tmp_path):
  texts = [f'<script>alert({n})</script><b onclick=x>"&{n}' for n in range(12)]
  site = Site(tmp_path, texts=texts)
  page = site.client.get(site.begin()).text
  assert '<script>alert' not in page and '&lt;script&gt;alert' in page
  site.study.store.close()


def test_every_answer_forbids_what_a_page_need_not_do(site):
  for path in ('/', site.begin(), '/static/study.js', '/p/nobody', '/admin'):
    headers = site.client.get(path).headers
    assert "default-src 'self'" in headers['content-security-policy']
    assert "frame-ancestors 'none'" in headers['content-security-policy']
    assert headers['x-content-type-options'] == 'nosniff'
  page = site.client.get(site.begin()).text
  assert 'style="' not in page and '<script>' not in page  # which the policy would not run
  assert not re.findall(r'(?:src|href)="(?:https?:)?//', page)


def test_forms_and_names_of_other_sites_are_refused(site):
  path = site.begin()
  given = {**site.fields(path), 'answer': 'skip'}
  foreign = site.client.post(
    f'{path}/answer', data=given, headers={'origin': 'http://evil.example'}
  )
  assert foreign.status_code == 403
  assert site.client.get(path, headers={'host': 'evil.example'}).status_code == 400
  same = site.client.post(f'{path}/answer', data=given, headers={'origin': 'http://127.0.0.1'})
  assert same.status_code == 303 and site.count() == 1


def test_the_log_holds_neither_tokens_nor_content(site):
  lines = []

  class Spy(stdlib_logging.Handler):
    def emit(self, record):
      lines.append(record.getMessage())

  logger, spy = logging.get_absl_logger(), Spy()
  logger.addHandler(spy)
  try:
    path = site.begin()
    site.answer(path, 'a secret of mine')
    site.client.get('/p/another-secret')
  finally:
    logger.removeHandler(spy)
  said = ' '.join(lines)
  assert 'POST p 400' in said and 'GET p 404' in said
  assert path[3:] not in said and 'secret' not in said


def test_a_file_that_is_held_gives_a_page_that_sends_the_same_again(site, tmp_path, monkeypatch):
  path = site.begin()
  given = {**site.fields(path), 'answer': 'choice:1'}
  site.study.store.rows('PRAGMA busy_timeout = 50')
  other = sqlite3.connect(tmp_path / 'study' / 'study.sqlite', isolation_level=None)
  other.execute('BEGIN IMMEDIATE')
  held = site.client.post(f'{path}/answer', data=given)
  assert held.status_code == 503 and 'Not kept yet' in held.text
  fields = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]+)"', held.text))
  assert fields == given
  other.execute('ROLLBACK')
  other.close()
  assert site.client.post(f'{path}/answer', data=fields).status_code == 303
  assert site.count() == 1


def test_a_model_that_fails_leaves_the_answers(modelled, monkeypatch):
  path = modelled.begin()
  given = {**modelled.fields(path), 'answer': 'choice:1'}
  before = modelled.count()

  def vanished(*_):
    raise OSError('the model is gone')

  monkeypatch.setattr(modelled.study.beliefs, 'profile', vanished)
  assert modelled.client.post(f'{path}/answer', data=given).status_code == 303
  page = modelled.client.get(path)
  assert page.status_code == 500 and 'All your answers are kept' in page.text
  assert 'the model is gone' not in page.text
  assert modelled.count() == before + 1
  monkeypatch.undo()
  assert modelled.client.get(path).status_code == 200


def test_participants_delete_themselves(site):
  path = site.begin()
  site.answer(path)
  assert 'model' not in site.client.get(f'{path}/data').text  # for there is none
  assert 'Deleted' in site.client.post(f'{path}/delete').text
  assert site.client.get(path).status_code == 404 and site.count() == 0


def test_the_administration_needs_its_token(site):
  assert 'Token, printed' in site.client.get('/admin').text
  for path in ('/admin/export',):
    assert site.client.get(path).status_code == 403
  for path in ('/admin/participants', '/admin/delete'):
    assert site.client.post(path, data={'participant': '1'}).status_code == 403
  assert site.client.post('/admin/login', data={'token': 'wrong'}).status_code == 403
  entered = site.client.post('/admin/login', data={'token': site.token})
  cookie = entered.headers['set-cookie'].lower()
  assert 'httponly' in cookie and 'samesite=strict' in cookie
  assert site.token not in cookie


def test_administrators_see_enrol_export_and_delete(site):
  mine = site.begin()
  for what in ('choice:0', 'same', 'choice:1'):
    site.answer(mine, what)
  site.client.post('/admin/login', data={'token': site.token})
  made = site.client.post('/admin/participants').text
  link = re.search(r'http://127.0.0.1(/p/[\w-]+)', made)[1]
  assert 'name="question"' in site.client.get(link).text
  with zipfile.ZipFile(io.BytesIO(site.client.get('/admin/export').content)) as archive:
    assert set(archive.namelist()) == {'items.csv', 'comparisons.csv', 'answers.csv'}
    rows = list(csv.DictReader(io.StringIO(archive.read('answers.csv').decode())))
  assert [row['answer'] for row in rows] == ['choice', 'same', 'choice']
  assert site.client.post('/admin/delete', data={'participant': '1'}).status_code == 303
  assert site.client.get(mine).status_code == 404
  assert site.client.post('/admin/delete', data={'participant': '1'}).status_code == 404
  site.client.post('/admin/logout')
  assert 'Token, printed' in site.client.get('/admin').text


def test_a_closed_study_takes_in_those_with_a_link_alone(tmp_path):
  site = Site(tmp_path, ASKED._replace(open_enrolment=False))
  assert 'open the link' in site.client.get('/').text
  assert site.client.post('/begin').status_code == 403
  site.study.store.close()


def test_a_study_takes_in_no_more_than_it_says(tmp_path):
  site = Site(tmp_path, ASKED._replace(max_participants=1))
  site.begin()
  assert site.client.post('/begin').status_code == 409
  site.study.store.close()


def test_three_texts_have_three_buttons(tmp_path):
  site = Site(tmp_path, ASKED._replace(num_candidates=3, attention_share=0.0))
  path = site.begin()
  page = site.client.get(path).text
  assert page.count('class="candidate"') == 3 and 'All bad' in page
  assert site.answer(path, 'choice:2')[0].status_code == 303
  site.study.store.close()


def test_an_answer_takes_no_longer_than_anybody_has():
  assert participation._seconds('3.25') == 3.25
  for text in (None, '', 'nan', 'inf', '-1', '1e9', 'x'):
    assert participation._seconds(text) is None


def test_hosts_of_this_machine_alone_need_no_flag():
  assert running.is_loopback('127.0.0.1') and running.is_loopback('::1')
  assert not running.is_loopback('0.0.0.0') and not running.is_loopback('127.0.0.1.example')
