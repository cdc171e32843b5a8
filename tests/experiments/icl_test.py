"""The command from a store with texts and a tiny model to a table, resumed."""

import json

import pandas as pd
import pytest
from forks import command

from metapers.data import feature_store


def flags(folders, workdir):
  return (
    f'--store={folders[0]}', f'--model={folders[1]}', f'--workdir={workdir}', '--num_users=4',
    '--num_queries=2', '--num_known=10', '--rows=zero_shot,own:both:2,lookup winning:winning:2',
    '--max_prompt=256', '--max_response=64', '--num_history=3',
  )  # fmt: skip


def test_a_table_from_texts_and_a_model(folders, tmp_path):
  done = command('icl', *flags(folders, tmp_path))
  assert done.returncode == 0, done.stderr
  frame = pd.read_csv(tmp_path / 'results.csv')
  assert {'zero_shot', 'own:both:2', 'lookup winning:winning:2', 'mean reward'} <= set(frame['row'])
  assert frame['value'].between(-1, 1).all()
  assert 'own:both:2' in done.stdout
  lines = (tmp_path / 'answers.jsonl').read_text().splitlines()
  assert len(lines) == 1 + 4 * 2 * 3
  (tmp_path / 'answers.jsonl').write_text('\n'.join(lines[:10]) + '\n')
  before = (tmp_path / 'results.csv').read_bytes()
  again = command('icl', *flags(folders, tmp_path))
  assert again.returncode == 0, again.stderr
  assert sorted((tmp_path / 'answers.jsonl').read_text().splitlines()) == sorted(lines)
  assert (tmp_path / 'results.csv').read_bytes() == before
  assert json.loads(lines[0])['num_users'] == 4


def test_mistakes_are_one_line(folders, tmp_path):
  for wrong, message in [
    ('--rows=own:best:1', 'SOURCE:ARM:SHOTS'),
    ('--rows=own:both:4', 'own:both:4 shows 4 examples, and there are 3'),
    ('--store=synthetic', 'holds no'),
    ('--max_response=1', 'no prompt has two responses of at most 1 tokens'),
    (f'--model={tmp_path}', 'config.json'),
  ]:
    done = command('icl', *flags(folders, tmp_path / 'w'), wrong)
    assert done.returncode == 2 and message in done.stderr, (wrong, done.stderr)
    assert not (tmp_path / 'w').exists()


def test_answers_are_written_scored_and_compared(folders, constructed, tmp_path):
  """A model that is shown examples writes; the store's own rewards score it; it is resumed."""
  given = (
    f'--store={constructed}', f'--model={folders[1]}', f'--workdir={tmp_path}', '--num_users=4',
    '--num_queries=2', '--num_known=10', '--rows=zero_shot,own:both:2', '--max_prompt=256',
    '--max_response=64', '--num_history=3', '--max_tokens=12',
  )  # fmt: skip
  done = command('icl_answers', *given)
  assert done.returncode == 0, done.stderr
  lines = (tmp_path / 'generated.jsonl').read_text().splitlines()
  (tmp_path / 'generated.jsonl').write_text('\n'.join(lines[:4]) + '\n')
  frame = pd.read_parquet(tmp_path / 'answers.parquet')
  assert command('icl_answers', *given).returncode == 0
  assert sorted((tmp_path / 'generated.jsonl').read_text().splitlines()) == sorted(lines)
  pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / 'answers.parquet'), frame)
  scored = command(
    'extract', '--config=experiments/configs/extract.py', '--config.source.kind=texts',
    f'--config.source.path={tmp_path / "answers.parquet"}', f'--out={tmp_path / "scored"}',
    "--config.constructed=('length', 'brevity')",
  )  # fmt: skip
  assert scored.returncode == 0, scored.stderr
  rival = feature_store.open_store(constructed).response_models[0]
  last = command('icl_answers', *given, f'--scored={tmp_path / "scored"}', f'--rival={rival}')
  assert last.returncode == 0, last.stderr
  found = pd.read_csv(tmp_path / 'rewards.csv').set_index(['row', 'metric'])
  wins = [found.loc[('own:both:2', f'{m}_against_best'), 'value'] for m in ('win', 'tie', 'loss')]
  assert sum(wins) == pytest.approx(1, abs=1e-5)
  cut = [json.loads(line)['answer']['finish_reason'] == 'length' for line in lines[1:]]
  assert f'{sum(cut)} cut at 12 tokens' in done.stdout
  assert found['num_cut'].between(0, sum(cut)).all()
  assert found.loc[('own:both:2', 'reward_minus_zero_shot'), 'smallest_shown'] >= 0
  assert (found['prompt_tokens'] > 0).all() and f'reward_minus_{rival}' in last.stdout + str(
    found.index.get_level_values('metric').tolist()
  )
  path = tmp_path / 'generated.jsonl'
  path.write_text(path.read_text().replace('"text": "', '"text": "other '))
  other = command('icl_answers', *given, f'--scored={tmp_path / "scored"}')
  assert other.returncode == 2 and 'the scores are of other answers: row 0' in other.stderr
