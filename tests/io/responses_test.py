"""Answers of many models in a journal: none is asked for twice or mistaken for another."""

import pandas as pd
import pytest
from fake_endpoint import answer, client

from metapers.io import chat, responses
from metapers.io.responses import Wanted

SHARED = {'max_tokens': 7, 'prompts': 'a hash'}
PROMPTS = ['one', 'two', 'three']


def said(text, model='served'):
  return chat.Completion(text, 'stop', model, {'total_tokens': 3})


@pytest.fixture
def path(tmp_path):
  """A journal of two answers."""
  journal = responses.Journal(tmp_path / 'journal.jsonl', SHARED)
  journal.add(Wanted(0, 'a'), said('one by a'))
  journal.add(Wanted(2, 'b'), said('\u2028 é\n'))
  journal.close()
  return tmp_path / 'journal.jsonl'


def read(path, shared=SHARED):
  journal = responses.Journal(path, shared)
  journal.close()
  return journal.answers


def test_a_journal_gives_its_answers_back(path):
  assert read(path) == {Wanted(0, 'a'): said('one by a'), Wanted(2, 'b'): said('\u2028 é\n')}


def test_a_line_that_a_kill_cut_short_is_dropped_wherever_it_was_cut(path):
  content = path.read_bytes()
  ends = [n + 1 for n, byte in enumerate(content) if byte == ord('\n')]
  for length in range(len(content)):
    path.write_bytes(content[:length])
    assert len(read(path)) == max(0, sum(end <= length for end in ends) - 1)
  path.write_bytes(content[:-5])
  journal = responses.Journal(path, SHARED)
  journal.add(Wanted(2, 'b'), said('again'))
  journal.close()
  assert read(path) == {Wanted(0, 'a'): said('one by a'), Wanted(2, 'b'): said('again')}


@pytest.mark.parametrize(
  ('shared', 'difference'),
  [
    ({**SHARED, 'max_tokens': 8}, 'max_tokens: 7 there, 8 now'),
    ({'max_tokens': 7}, 'prompts: a hash there, None now'),
    ({**SHARED, 'temperature': 0.5}, 'temperature: None there, 0.5 now'),
  ],
)
def test_answers_that_were_asked_for_otherwise_are_refused(path, shared, difference):
  with pytest.raises(ValueError, match=f'otherwise .{difference}.; ask the same way'):
    read(path, shared)


@pytest.mark.parametrize('line', ['{"row": 0}', '[1, 2]', 'no json', '{"answer": {"x": 1}}'])
def test_a_spoiled_journal_is_named(path, line):
  path.write_text(path.read_text() + line + '\n')
  with pytest.raises(ValueError, match=r'journal\.jsonl is no journal of answers'):
    read(path)


def test_only_what_is_missing_is_asked_for(path, serve):
  def behave(n, body):
    text = body['messages'][0]['content']
    if (text, body['model']) == ('three', 'a'):
      return 400, {}, {'error': {'message': 'too long'}}
    return 200, {}, answer(f'{text} by {body["model"]}')

  endpoint, journal, counts = serve(behave), responses.Journal(path, SHARED), []
  arguments = client(endpoint), PROMPTS, ['a', 'b']
  given = {'max_tokens': 7}
  failures = responses.collect(*arguments, journal, parameters=given, ended=counts.append)
  journal.close()
  assert len(endpoint.bodies) == 4
  assert all(body['max_tokens'] == 7 for body in endpoint.bodies)
  assert counts == [3, 4, 5, 6]
  assert list(failures) == [Wanted(2, 'a')]
  assert read(path) == journal.answers
  table = responses.wide_table(pd.DataFrame({'prompt': PROMPTS}), 'ab', journal.answers, failures)
  assert list(table['response_1']) == ['one by a', 'two by a', '']
  assert list(table['response_2']) == ['one by b', 'two by b', '\u2028 é\n']
  assert 'too long' in table['response_1_finish_reason'][2]
  lines = responses.summary('ab', journal.answers, failures, 3)
  assert lines[0] == 'a: 2 of 3 answers (2 stop); 0 empty, 1 failed'
  assert 'the last failure: a refuses a request (400: too long)' in lines[1]
  assert lines[2] == 'b: 3 of 3 answers (3 stop); 0 empty, 0 failed'
  journal = responses.Journal(path, SHARED)
  assert responses.collect(*arguments, journal, parameters=given).keys() == failures.keys()
  journal.close()
  assert len(endpoint.bodies) == 5


def test_a_model_that_never_answers_ends_the_run(tmp_path, serve):
  endpoint = serve(lambda n, body: (400, {}, {'error': {'message': 'no such parameter'}}))
  journal = responses.Journal(tmp_path / 'journal.jsonl', SHARED)
  with pytest.raises(OSError, match=r'a failed 20 times .* no such parameter'):
    responses.collect(client(endpoint), ['x'] * 60, ['a'], journal, parameters={})
  assert len(endpoint.bodies) < 30
  journal.close()


def test_a_journal_without_answers_leaves_no_file(tmp_path):
  responses.Journal(tmp_path / 'new' / 'journal.jsonl', SHARED).close()
  assert not list(tmp_path.iterdir())


def test_a_journal_that_cannot_be_written_is_refused_before_anything_is_asked(tmp_path):
  (tmp_path / 'file').touch()
  with pytest.raises(ValueError, match=r'journal\.jsonl cannot be written: .*file is no folder'):
    responses.Journal(tmp_path / 'file' / 'journal.jsonl', SHARED)


@pytest.mark.parametrize(
  'line',
  [
    '{"row": -1, "model": "a", "answer": {}}',
    '{"row": 1, "model": "a", "answer": {"text": 3}}',
    '{"row": 1, "model": "a"}',
    '[' * 10**5,
    '[1]',
  ],
)
def test_a_line_of_something_else_is_refused(path, line):
  with path.open('a') as file:
    file.write(line + '\n')
  with pytest.raises(ValueError, match=r'journal\.jsonl is no journal of answers \(line 4'):
    read(path)
