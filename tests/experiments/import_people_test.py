"""From one file of choices between texts to a folder of people's tables, as a user types it."""

import json

import pandas as pd
import pytest
from forks import command

from metapers.data import comparisons


@pytest.fixture
def file(tmp_path):
  rows = [
    {
      'annotator': f'p{number % 5}',
      'question': f'Why {number}?',
      'left': f'because {number} 🙂',
      'right': 'so\nthere',
      'verdict': 'LR'[number % 3 == 0],
    }
    for number in range(30)
  ]
  rows[4]['verdict'] = None
  rows[6]['mood'] = 'good'
  (tmp_path / 'votes.jsonl').write_text('\n'.join(map(json.dumps, rows)))
  return tmp_path / 'votes.jsonl'


GIVEN = ('--prompt=question', '--a=left', '--b=right', '--choice=verdict', '--values=L,R')


def test_a_file_becomes_a_folder(file, tmp_path):
  out = tmp_path / 'mine'
  done = command('import_people', f'--file={file}', f'--out={out}', *GIVEN)
  assert done.returncode == 0, done.stderr
  first, second = done.stdout.splitlines()
  assert first.startswith('votes.jsonl: 29 comparisons of 30 rows, by 5 people, of 58 texts to 29')
  assert 'L is left, R is right' in first and 'left out: no choice 1 (row 5)' in first
  assert second == str(out)
  assert 'not read: mood' in done.stderr
  found = comparisons.load_comparisons(str(out))
  assert found.mask.sum() == 29 and 'so\nthere' in found.item_texts
  items = pd.read_csv(out / 'items.csv', dtype={'item_id': str}).set_index('item_id')
  assert items.loc['0', 'context'] == 'Why 0?'


def test_what_is_refused_writes_nothing(file, tmp_path):
  out = f'--out={tmp_path / "new" / "mine"}'
  for given, message in (
    ((out,), '--file is needed'),
    ((f'--file={file}',), '--out is needed'),
    ((f'--file={file}', out), 'no column of either a, b and choice, or chosen and rejected'),
    ((f'--file={file}', out, *GIVEN[:-1]), "'verdict' of 29 rows is neither of the two texts"),
    ((f'--file={file}', out, str(file)), 'unknown arguments'),
    ((f'--file={file}', f'--out={file}', *GIVEN), 'exists; give another --out'),
    ((f'--file={tmp_path}/none.csv', out), 'none.csv is no .parquet or .jsonl file, nor .csv'),
  ):
    failed = command('import_people', *given)
    assert failed.returncode == 2 and message in failed.stderr, failed.stderr
    assert failed.stderr.count('\n') == 1
  assert not (tmp_path / 'new').exists()


def test_help_names_the_columns():
  shown = command('import_people', '--help').stdout
  assert '--rejected' in shown and 'response_a' in shown


def test_who_gives_a_file_in_place_of_a_folder_is_told_the_command(file, tmp_path):
  config = '--config=experiments/configs/people.py:quick'
  given = f'--config.population.kwargs.path={file}'
  failed = command('benchmark', config, f'--workdir={tmp_path / "table"}', given)
  assert failed.returncode == 2
  assert 'is no folder' in failed.stderr and 'experiments.import_people' in failed.stderr
