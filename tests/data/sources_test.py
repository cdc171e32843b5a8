"""Texts and known scores from files of several forms."""

import numpy as np
import pandas as pd
import pytest
from absl import logging

from metapers.data import rendering, sources, texts
from metapers.io import chat as chats
from metapers.io import responses
from metapers.io.responses import Wanted

WIDE = pd.DataFrame(
  {
    'prompt_id': ['x', 'y', 'z'],
    'prompt': ['p', 'q', 'r'],
    'response_1': ['a', 'b', 'c'],
    'response_2': ['d', 'e', 'f'],
    'response_1_kind': [1.0, 2.0, np.inf],
    'response_2_kind': [4.0, 5.0, 6.0],
  }
)


def saved(frame, path):
  if path.suffix == '.parquet':
    frame.to_parquet(path)
  else:
    frame.to_json(path, orient='records', lines=True)
  return str(path)


@pytest.mark.parametrize('suffix', ['.parquet', '.jsonl'])
def test_a_wide_file_gives_texts_and_its_scores(tmp_path, suffix):
  finite = WIDE.replace(np.inf, np.nan)
  found = sources.read_source(
    'texts', path=saved(finite, tmp_path / f'mine{suffix}'), licence='mine'
  )
  assert found.texts.responses.tolist() == [['a', 'd'], ['b', 'e'], ['c', 'f']]
  np.testing.assert_array_equal(found.scores['kind'], [[1, 4], [2, 5], [np.nan, 6]])
  assert (found.name, found.licence) == (f'mine{suffix}', 'mine')


def test_columns_that_are_not_read_are_named(tmp_path, monkeypatch):
  lines = []
  monkeypatch.setattr(logging, 'warning', lambda line, *given: lines.append(line % given))
  path = saved(WIDE.assign(subset='s', split='test', kind=1), tmp_path / 'mine.jsonl')
  found = sources.read_source('texts', path=path)
  scores = WIDE[['prompt_id']].assign(response_1_other=1, response_2_other=2, respnse_1_else=3)
  sources.join_scores(found, scores)
  assert lines == [
    'columns of the source that are not read: split, kind',
    'columns of the source that are not read: respnse_1_else',
  ]


def test_answers_as_experiments_respond_writes_them_are_texts_without_scores(monkeypatch):
  lines = []
  monkeypatch.setattr(logging, 'warning', lambda line, *given: lines.append(line % given))
  prompts, models = WIDE[['prompt_id', 'prompt']], ('m', 'n')
  answers = {
    Wanted(row, model): chats.Completion(f'{model} {row}', 'stop', f'{model}-2', {})
    for row in range(3)
    for model in models
  }
  del answers[Wanted(1, 'n')]
  found = sources.read_texts(responses.wide_table(prompts, models, answers, {}))
  assert found.texts.responses.tolist() == [['m 0', 'n 0'], ['m 1', ''], ['m 2', 'n 2']]
  assert found.texts.response_models == models
  assert not found.scores and not lines


def test_models_of_some_responses_alone_are_refused():
  with pytest.raises(ValueError, match='no column response_2_model, and others name'):
    texts.from_frame(WIDE.assign(response_1_model='m'))


@pytest.mark.parametrize('nobody', [None, float('nan')])
@pytest.mark.parametrize('form', ['columns', 'lists'])
def test_a_response_without_its_model_is_refused_with_its_row(nobody, form):
  frame = pd.DataFrame({'prompt': ['p', 'q', 'r'], 'response_1': 'a', 'response_2': ['b', 'c', '']})
  frame['response_1_model'], frame['response_2_model'] = (
    'm',
    pd.Series(['n', nobody, nobody], dtype=object),
  )
  if form == 'lists':
    for name, suffix in (('responses', ''), ('response_models', '_model')):
      columns = [f'response_{n}{suffix}' for n in (1, 2)]
      frame[name] = frame[columns].to_numpy(object).tolist()
  with pytest.raises(ValueError, match='row 1, response 2: no model is named that wrote it'):
    texts.from_frame(frame)
  left = frame.drop(1).reset_index(drop=True)
  read = texts.from_frame(left, np.zeros(2, int))  # who wrote no text is nobody
  assert read.response_models == ('m', 'n', 'response 2')


def test_infinite_scores_are_missing():
  assert np.isnan(sources.read_texts(WIDE).scores['kind'][2, 0])


def test_scores_are_joined_by_prompt_whatever_their_order(tmp_path):
  scores = pd.DataFrame(
    {'prompt_id': ['z', 'x'], 'response_1_calm': [1.0, 2.0], 'response_2_calm': [3.0, 4.0]}
  )
  path = saved(WIDE, tmp_path / 'texts.parquet')
  found = sources.read_source('texts', path=path, scores=saved(scores, tmp_path / 'scores.parquet'))
  np.testing.assert_array_equal(found.scores['calm'], [[2, 4], [np.nan, np.nan], [1, 3]])
  assert list(found.scores) == ['kind', 'calm']


@pytest.mark.parametrize(
  ('columns', 'message'),
  [
    ({'prompt_id': ['w'], 'response_1_calm': [1.0], 'response_2_calm': [1.0]}, r"unknown: \['w'\]"),
    ({'prompt_id': ['x'], 'response_1_calm': [1.0]}, "'calm': no column response_2_calm"),
    ({'prompt_id': ['x'], 'calm': [1.0]}, 'a table of scores needs prompt_id'),
    ({'prompt_id': ['x'], 'response_1_kind': [1.0], 'response_2_kind': [1.0]}, 'already'),
  ],
)
def test_scores_that_do_not_fit_are_refused(columns, message):
  source = sources.read_texts(WIDE)
  with pytest.raises(ValueError, match=message):
    sources.join_scores(source, pd.DataFrame(columns))


def ultrafeedback(ratings):
  completions = [
    {
      'model': f'model {i}',
      'response': f'answer {i}',
      'annotations': {'helpfulness': {'Rating': rating}, 'honesty': {'Rating': 'N/A'}},
    }
    for i, rating in enumerate(ratings)
  ]
  return {'instruction': 'why', 'source': 'sharegpt', 'completions': completions}


def test_ratings_by_aspect_become_reward_models(tmp_path):
  frame = pd.DataFrame([ultrafeedback('12'), ultrafeedback('53'), ultrafeedback('444')])
  path = saved(frame, tmp_path / 'rated.jsonl')
  with pytest.raises(ValueError, match='cannot be split into'):
    sources.read_source('ultrafeedback', path=path)  # two prompts make no three splits
  frame = pd.DataFrame([ultrafeedback('12'), ultrafeedback('53'), ultrafeedback('21')])
  frame['instruction'] = ['first', 'second', 'third']
  found = sources.read_source('ultrafeedback', path=saved(frame, tmp_path / 'more.jsonl'))
  assert list(found.scores) == ['helpfulness', 'honesty']
  np.testing.assert_array_equal(found.scores['helpfulness'], [[1, 2], [5, 3], [2, 1]])
  assert np.isnan(found.scores['honesty']).all()
  assert found.texts.response_models == ('model 0', 'model 1')


@pytest.mark.parametrize(
  'change',
  [
    {'annotations': None},
    {'annotations': {'helpfulness': [{'Rating': '5'}]}},
    {'annotations': {'helpfulness': '5'}},
    {'response': None},
    {'model': 7},
  ],
)
def test_rated_rows_of_another_form_are_left_out_and_counted(tmp_path, change):
  odd = ultrafeedback('12')
  odd['completions'][1] |= change
  rows = [*(ultrafeedback('12') | {'instruction': f'{n}'} for n in range(4)), odd]
  rows += [ultrafeedback('123'), {'instruction': 'z', 'completions': None}]
  path = saved(pd.DataFrame(rows), tmp_path / 'rated.jsonl')
  found = sources.read_source('ultrafeedback', path=path)
  assert found.texts.prompts.tolist() == ['0', '1', '2', '3']
  counted = {'completions of another form': 2, 'another number of completions': 1}
  assert found.left_out == counted
  assert f'rows left out: {counted}' in sources.describe_source(found)


def test_no_row_of_the_form_is_an_error():
  frame = pd.DataFrame({'instruction': ['why'], 'completions': [[{'text': 'x'}]]})
  with pytest.raises(ValueError, match='no row has completions with model, response'):
    sources.read_ultrafeedback(frame)


def chat(*texts):
  roles = ('user', 'assistant') * len(texts)
  return [{'role': role, 'content': text} for role, text in zip(roles, texts)]


@pytest.mark.parametrize('suffix', ['.parquet', '.jsonl'])
def test_messages_are_read_as_the_conversation_that_they_are(tmp_path, suffix):
  prompts = [chat('why'), chat('why', 'so', 'and then'), chat('how')]
  answers = [[{'role': 'assistant', 'content': f'answer {n}'}] for n in range(3)]
  frame = pd.DataFrame({'prompt': prompts, 'response_1': answers, 'response_2': answers[::-1]})
  found = sources.read_source('texts', path=saved(frame, tmp_path / f'chat{suffix}')).texts
  history = [rendering.Turn('user', 'why'), rendering.Turn('assistant', 'so')]
  several = rendering.conversation([*history, rendering.Turn('user', 'and then')])
  assert found.prompts.tolist() == ['why', several, 'how']
  assert found.responses[0].tolist() == ['answer 0', 'answer 2']


@pytest.mark.parametrize(
  ('column', 'value', 'message'),
  [
    ('prompt', 7, 'row 1, prompt: expected text or messages, got int 7'),
    ('response_2', 4, 'row 1, response 2: expected text or messages, got int 4'),
    ('response_1', [{'role': 'narrator', 'content': 'x'}], 'row 1, response 1'),
    ('prompt', [{'role': 'user', 'content': None}], 'row 1, prompt'),
  ],
)
def test_what_is_no_text_is_refused_with_its_row(column, value, message):
  frame = WIDE.astype(object)
  frame.at[1, column] = value
  with pytest.raises(ValueError, match=message):
    sources.read_texts(frame)


def test_prompts_without_text_are_counted_and_never_shown():
  frame = pd.concat([WIDE, WIDE], ignore_index=True).assign(prompt=['p', None, ' ', 'q', 'r', 's'])
  source = sources.read_texts(frame)
  assert texts.left_out(source.texts).empty_prompts == 2
  assert texts.readable(source.texts).tolist()[:3] == [[True, True], [False] * 2, [False] * 2]
  assert "'empty_prompts': 2" in sources.describe_source(source)


def test_other_kinds_and_files_are_refused(tmp_path):
  with pytest.raises(ValueError, match="unknown kind of source 'csv'; known: personal_llm, texts"):
    sources.read_source('csv')
  with pytest.raises(ValueError, match=r'is no \.parquet or \.jsonl file'):
    sources.read_source('texts', path=str(tmp_path / 'nothing.parquet'))
  (tmp_path / 'bad.parquet').write_bytes(b'nothing')
  with pytest.raises(ValueError, match=r'bad\.parquet cannot be read'):
    sources.read_source('texts', path=str(tmp_path / 'bad.parquet'))
  with pytest.raises(ValueError, match='no column completions'):
    sources.read_ultrafeedback(pd.DataFrame({'instruction': ['why']}))


@pytest.mark.parametrize('kind', ['texts', 'ultrafeedback', 'people'])
def test_who_gives_no_file_is_told_so(kind):
  with pytest.raises(ValueError, match=rf'no \w+ was given to read .{kind}. from: .*source\.path='):
    sources.read_source(kind)
