"""Texts and known scores from files of several forms."""

import numpy as np
import pandas as pd
import pytest

from metapers.data import sources

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
  found = sources.read_source('ultrafeedback', path=saved(frame, tmp_path / 'more.jsonl'))
  assert list(found.scores) == ['helpfulness', 'honesty']
  np.testing.assert_array_equal(found.scores['helpfulness'], [[1, 2], [5, 3], [2, 1]])
  assert np.isnan(found.scores['honesty']).all()
  assert found.texts.response_models == ('model 0', 'model 1')


def test_other_kinds_and_files_are_refused(tmp_path):
  with pytest.raises(ValueError, match="unknown kind of source 'csv'; known: personal_llm, texts"):
    sources.read_source('csv')
  with pytest.raises(ValueError, match=r'is no \.parquet or \.jsonl file'):
    sources.read_source('texts', path=str(tmp_path / 'nothing.parquet'))
  (tmp_path / 'bad.parquet').write_bytes(b'nothing')
  with pytest.raises(ValueError, match=r'bad\.parquet cannot be read'):
    sources.read_source('texts', path=str(tmp_path / 'bad.parquet'))
  with pytest.raises(ValueError, match='no column completions'):
    sources.from_ultrafeedback(pd.DataFrame({'instruction': ['why']}))
