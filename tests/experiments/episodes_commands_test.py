"""Exporting episodes and scoring predictions for them, as a user types it."""

import json
import pathlib
import subprocess
import sys

import forks
import numpy as np
import pandas as pd
import pytest
from forks import command

from experiments import build
from experiments.configs import base
from metapers.bench import results
from metapers.core import population
from metapers.data import feature_store, manifest, synthetic

EXAMPLE = pathlib.Path(__file__).parent / 'numpy_example.py'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """Returns the episodes of a protocol of two conditions, small enough for a test."""
  path = tmp_path_factory.mktemp('exported')
  config = path / 'small.py'
  config.write_text(
    'from experiments.configs import p_ttt\n'
    'def get_config(argument=None):\n'
    '  config = p_ttt.get_config(argument)\n'
    '  config.population.kwargs.num_query = 5\n'
    '  config.evaluation.shots = (0, 3)\n'
    '  config.evaluation.num_users = 6\n'
    '  config.evaluation.num_particles = config.evaluation.num_resamples = 20\n'
    '  return config\n'
  )
  made = command(
    'export_episodes', f'--config={config}:quick', f'--out={path / "episodes"}',
    '--num_train_users=5',
  )  # fmt: skip
  assert made.returncode == 0, made.stderr
  assert 'episodes sha256: ' in made.stdout
  return path / 'episodes'


def test_predictions_of_another_framework_get_on_the_table(folder, tmp_path):
  path, out = tmp_path / 'logistic.parquet', tmp_path / 'results.csv'
  subprocess.run([sys.executable, EXAMPLE, folder, path], check=True)
  done = command('score', f'--episodes={folder}', f'--out={out}', '--name=logistic', path)
  assert done.returncode == 0, done.stderr
  assert 'licence: Apache-2.0' in done.stdout
  frame = results.read_results(out)
  assert {'logistic', 'oracle', 'bayes'} == set(frame['learner'])
  assert {'test', 'seen'} == set(frame['split'])


def test_the_example_of_the_documents_is_the_one_that_runs():
  document = (forks.ROOT / 'docs' / 'episodes.md').read_text()
  code = document.partition('```python\n')[2].partition('```')[0]
  assert EXAMPLE.read_text().endswith(code)


def test_mistakes_are_one_line(folder, tmp_path):
  failed = command('score', f'--episodes={folder}', folder / 'manifest.json')
  assert failed.returncode == 2
  assert failed.stderr.startswith('error: ')
  assert 'cannot be read as parquet' in failed.stderr
  assert failed.stderr.count('\n') == 1
  again = command(
    'export_episodes', '--config=experiments/configs/p_ttt.py:quick', f'--out={folder}'
  )
  assert again.returncode == 2
  assert 'exists; give a name that is free' in again.stderr


def test_people_in_a_folder_of_tables_alone_are_exported_with_overrides(tmp_path):
  rng, people = np.random.default_rng(0), tmp_path / 'people'
  people.mkdir()
  items = pd.DataFrame(rng.normal(size=(30, 3)), columns=['sweet', 'sour', 'dear'])
  items.assign(item_id=range(30)).to_csv(people / 'items.csv', index=False)
  chosen = rng.integers(0, 30, 60 * 12)
  shown = {'user_id': np.arange(60 * 12) // 12, 'chosen': chosen, 'rejected': (chosen + 1) % 30}
  pd.DataFrame(shown).to_csv(people / 'comparisons.csv', index=False)
  out = tmp_path / 'episodes'
  made = command(
    'export_episodes', '--config=experiments/configs/ukpconvarg.py:quick', f'--out={out}',
    f'--config.population.kwargs.path={people}', '--config.population.kwargs.num_support=4',
    '--config.population.kwargs.num_query=4', '--config.evaluation.shots=0,4',
    '--config.evaluation.num_users=9', '--num_train_users=5',
  )  # fmt: skip
  assert made.returncode == 0, made.stderr
  manifest = json.loads((out / 'manifest.json').read_text())
  assert manifest['licence'] == 'not stated where the data lie'
  (condition,) = manifest['conditions']
  test = np.load(out / condition['name'] / 'test.npz')
  assert test['support_mask'].shape == (9, 4)
  assert test['shots'].tolist() == [0, 4]


@pytest.mark.parametrize('about', [None, '{}', '{"licence": ""}', '{"licence": "CC0"}'])
def test_the_licence_of_people_is_that_of_their_folder(tmp_path, about):
  (tmp_path / 'items.csv').write_text('item_id\na\nb\nc\n')
  pairs = [f'{user},a,b\n{user},b,c\n' for user in range(12)]
  (tmp_path / 'comparisons.csv').write_text('user_id,chosen,rejected\n' + ''.join(pairs))
  if about is not None:
    (tmp_path / 'source.json').write_text(about)
  config = build.population_config('people', path=str(tmp_path), num_support=1, num_query=1)
  made = build.describe(base.base(config))()
  assert made.licence == ('CC0' if about and 'CC0' in about else '')


def test_the_licence_of_what_is_drawn_is_ours():
  for name in ('reward_ensemble', 'two_types', 'np_btl'):
    drawn = build.describe(base.base(build.population_config(name)))()
    assert drawn.licence == population.DRAWN


def test_the_licence_of_a_store_is_that_of_its_manifest(tmp_path):
  table = synthetic.synthetic_store(num_prompts=30)
  about = manifest.Provenance('a test', 'by hand', 'CC BY 4.0', 'none', '1')
  folder = feature_store.write_store(tmp_path / 'store', table, about)
  sizes = {'num_support': 1, 'num_query': 1, 'num_slates': 1, 'num_held_out': 8}
  config = base.base(build.population_config('reward_ensemble', store=str(folder), **sizes))
  assert build.describe(config)().licence == 'CC BY 4.0'
