"""PersonalLLM's data set and stored users, on small files of the published form."""

import gzip
import json
import os
import pathlib
import types

import numpy as np
import pandas as pd
import pytest

from metapers.data import hub, personal_llm, sources, texts
from metapers.data.personal_llm_constants import RESPONSE_MODELS, REWARD_MODELS

ORACLE = os.environ.get('METAPERS_PERSONALLLM_ORACLE', '')
with_oracle = pytest.mark.skipif(not ORACLE, reason='METAPERS_PERSONALLLM_ORACLE is not set')


def frame(size, start=0, seed=0):
  """Makes rows of the published form; scores have the published mean and sd."""
  rng = np.random.default_rng(seed)
  columns = {
    'prompt': [f'prompt {start + row}' for row in range(size)],
    'prompt_id': start + np.arange(size),
    'subset': ['HelpSteer'] * size,
  }
  for i in range(1, 9):
    columns[f'response_{i}'] = [f'answer {start + row} of {i}' for row in range(size)]
    columns[f'response_{i}_model'] = [RESPONSE_MODELS[(i + row) % 8] for row in range(size)]
    for name, (mean, std) in REWARD_MODELS.items():
      columns[f'response_{i}_{name}'] = mean + std * rng.standard_normal(size)
  return pd.DataFrame(columns)


def save(folder, train, test):
  (folder / 'data').mkdir(parents=True)
  train.to_parquet(folder / 'data' / 'train-00000-of-00001.parquet')
  test.to_parquet(folder / 'data' / 'test-00000-of-00001.parquet')
  return str(folder)


def test_the_schema_has_99_columns():
  assert len(personal_llm.columns()) == 99
  assert list(frame(2)[personal_llm.columns()]) == personal_llm.columns()


def test_scores_are_carried_by_name_and_models_are_read(tmp_path):
  train, test = frame(40), frame(6, start=40)
  shuffled = train[np.random.default_rng(0).permutation(train.columns)]
  loaded = personal_llm.load_data_set(path=save(tmp_path, shuffled, test))
  assert list(loaded.scores) == sorted(REWARD_MODELS)
  expected = train[[f'response_{i}_gemma_2b' for i in range(1, 9)]].to_numpy(np.float32)
  np.testing.assert_array_equal(loaded.scores['gemma_2b'][:40], expected)
  read = loaded.texts
  assert read.response_models[read.response_model[3, 0]] == train['response_1_model'][3]
  assert (read.prompt_split[-6:] == 2).all()
  assert np.bincount(read.prompt_split).tolist() == [36, 4, 6]
  assert read.prompt_ids[41] == '41'
  assert read.subset[0] == 'HelpSteer'


def test_a_missing_column_is_named(tmp_path):
  train = frame(4).drop(columns='response_3_gemma_7b').assign(extra=1)
  path = save(tmp_path, train, frame(2))
  with pytest.raises(ValueError, match=r'split train .* lacks 1 of its 99 .*3_gemma_7b; .*: extra'):
    personal_llm.load_data_set(path=path)


def test_error_texts_empty_and_repeated_responses_are_counted(tmp_path):
  train = frame(30)
  train.loc[0, 'response_2'] = texts.ERROR_TEXT
  train.loc[1, 'response_3'] = ''
  train.loc[2, 'response_4'] = None
  train.loc[3, 'response_5'] = train.loc[3, 'response_1']
  loaded = personal_llm.load_data_set(path=save(tmp_path, train, frame(3)))
  assert texts.left_out(loaded.texts) == (1, 2, 1, 0)


def test_scores_that_are_no_numbers_are_refused_and_infinite_ones_missing(tmp_path):
  train = frame(30)
  train.loc[0, 'response_1_gemma_2b'] = np.inf
  loaded = personal_llm.load_data_set(path=save(tmp_path / 'one', train, frame(3)))
  assert np.isnan(loaded.scores['gemma_2b'][0, 0])
  train['response_1_gemma_2b'] = 'high'
  with pytest.raises(ValueError, match='gemma_2b: its columns must hold numbers'):
    personal_llm.load_data_set(path=save(tmp_path / 'two', train, frame(3)))


def test_statistics_that_differ_from_the_published_are_marked(tmp_path):
  loaded = personal_llm.load_data_set(path=save(tmp_path, frame(200), frame(20)))
  for name, (mean, std) in REWARD_MODELS.items():
    train = loaded.scores[name][:200].astype(np.float64)
    rescaled = (loaded.scores[name] - train.mean()) / train.std() * std + mean
    loaded.scores[name] = rescaled.astype(np.float32)
  found = personal_llm.statistics(loaded)
  assert all(one.agrees for one in found)
  loaded.scores['gemma_2b'] += 0.01
  found = personal_llm.statistics(loaded)
  assert [one.name for one in found if not one.agrees] == ['gemma_2b']
  assert personal_llm.as_text(found).count('differs by more than 0.001') == 1
  described = sources.describe_source(sources.Source(*loaded, name='PersonalLLM', licence=''))
  assert described.startswith('PersonalLLM: 220 prompts x 8 responses\nnever shown: {')
  assert described.endswith(personal_llm.as_text(found))


def test_a_folder_without_the_files_says_what_was_looked_for(tmp_path):
  with pytest.raises(ValueError, match=r'holds no train\*\.parquet'):
    personal_llm.load_data_set(path=str(tmp_path))


def test_without_a_network_the_error_says_how_to_pass_a_folder(monkeypatch):
  monkeypatch.setattr('datasets.config.HF_HUB_OFFLINE', True)
  monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)
  with pytest.raises(ValueError, match=r'Download train\*\.parquet .* their folder'):
    personal_llm.load_data_set(revision='0' * 40)


def test_a_branch_is_read_at_its_commit_which_is_recorded(tmp_path, monkeypatch):
  asked = []
  path = save(tmp_path, frame(40), frame(6, start=40))

  def read_table(name, revision, folder, *, split):
    asked.append((name, revision, folder))
    return hub.read_local(pathlib.Path(path), split)

  found = types.SimpleNamespace(sha='c0ffee')
  monkeypatch.setattr('huggingface_hub.dataset_info', lambda name, revision: found)
  monkeypatch.setattr(hub, 'read_table', read_table)
  source = sources.read_source('personal_llm', revision='main')
  assert asked == [('namkoong-lab/PersonalLLM', 'c0ffee', '')] * 2
  assert source.name == 'PersonalLLM (namkoong-lab/PersonalLLM, commit c0ffee)'


def test_without_a_network_no_commit_is_made_up(monkeypatch):
  def unreachable(name, revision):
    raise ConnectionError('no route')

  monkeypatch.setattr('huggingface_hub.dataset_info', unreachable)
  with pytest.raises(ValueError, match=r'the hub does not give the commit of .*no route.* folder'):
    sources.read_source('personal_llm')


def people(read, users=3, history=4, seed=0):
  rng = np.random.default_rng(seed)
  rows = []
  for user in range(users):
    row = {'person_id': user, 'person_weight': rng.dirichlet([0.3] * 10).tolist()}
    for j in range(1, history + 1 - user % 2):
      prompt, (a, b) = rng.integers(len(read.prompts)), rng.choice(8, 2, replace=False)
      row |= {f'prompt_{j}': read.prompts[prompt], f'chosen_{j}': str(rng.choice(['a', 'b']))}
      row |= {
        f'response_{j}_a': read.responses[prompt, a],
        f'response_{j}_b': read.responses[prompt, b],
      }
    rows.append(row)
  return rows


def test_stored_users_become_weights_and_histories(tmp_path):
  read = personal_llm.load_data_set(path=save(tmp_path, frame(20), frame(3))).texts
  rows = pd.DataFrame(people(read)).to_dict('records')  # shorter histories are padded with NaN
  users = personal_llm.users_from_rows(rows)
  assert list(users.weights) == sorted(REWARD_MODELS)
  assert [len(history) for history in users.interactions] == [4, 3, 4]
  features = np.random.default_rng(1).normal(size=(23, 8, 5)).astype(np.float16)
  histories = personal_llm.to_histories(users, read, features, source='made up')
  assert histories.mask.sum(1).tolist() == [4, 3, 4]
  chosen = read.responses.ravel()[histories.chosen[1, 2]]
  assert chosen == rows[1][f'response_3_{rows[1]["chosen_3"]}']
  assert histories.context[histories.chosen[0, 0]] == histories.context[histories.rejected[0, 0]]


def test_a_response_that_the_store_lacks_is_refused(tmp_path):
  read = personal_llm.load_data_set(path=save(tmp_path, frame(20), frame(3))).texts
  rows = people(read)
  rows[0]['response_1_a'] = 'something else'
  users = personal_llm.users_from_rows(rows)
  with pytest.raises(ValueError, match='1 of 22 responses are not in the store'):
    personal_llm.to_histories(users, read, np.zeros((23, 8, 2)), source='made up')


def test_users_of_one_set_in_another_are_counted(caplog):
  rows = [{'person_id': i, 'person_weight': np.eye(10)[i], 'history': []} for i in range(4)]
  sets = {'eval': rows[:3], 'interactions': rows[2:]}
  made = {name: personal_llm.users_from_rows(part) for name, part in sets.items()}
  assert personal_llm.warn_of_shared(made) == 1
  assert '1 users of eval are in interactions as well' in caplog.text


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'person_weight': [1.0]}, 'person_weight of row 0 must be 10 numbers'),
    ({'person_weight': [0.5] * 10}, 'that sum to 1'),
    ({'history': [{'prompt': 'p', 'a': 'x', 'b': 'y', 'chosen': 'c'}]}, 'chosen must be a or b'),
    ({'history': [{'prompt': 'p', 'a': None, 'b': 'y', 'chosen': 'a'}]}, 'must be texts'),
  ],
)
def test_invalid_rows_are_refused(change, message):
  row = {'person_id': 0, 'person_weight': [0.1] * 10, 'history': []} | change
  with pytest.raises(ValueError, match=message):
    personal_llm.users_from_rows([row])


@with_oracle
def test_the_stored_constants_are_the_published_ones():
  stored = json.loads((pathlib.Path(ORACLE) / 'reward_model_constants.json').read_text())
  assert {name: (one['mean'], one['sd']) for name, one in stored.items()} == REWARD_MODELS


@with_oracle
def test_the_stored_weights_are_a_known_draw():
  stored = np.load(pathlib.Path(ORACLE) / 'eval_person_weights_seed2020.npz')['weights']
  drawn = np.random.RandomState(2020).dirichlet([0.01] * 10, size=5)
  np.testing.assert_array_equal(stored[:5], drawn)


@with_oracle
def test_the_stored_histories_load():
  with gzip.open(pathlib.Path(ORACLE) / 'oracle_rows.jsonl.gz', 'rt') as file:
    rows = [json.loads(line) for line in file]
  users = personal_llm.users_from_rows([row for row in rows if row['kind'] == 'pairwise'])
  assert sum(map(len, users.interactions)) >= 14
  drawn = np.random.RandomState(2020).dirichlet([0.01] * 10, size=5)
  stacked = np.stack([users.weights[name] for name in sorted(REWARD_MODELS)], -1)
  assert all(np.abs(drawn - row).max(1).min() < 1e-12 for row in stacked)
