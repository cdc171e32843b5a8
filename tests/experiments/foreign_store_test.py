"""A store of other reward models and other writers than PersonalLLM's, through the commands."""

import forks
import numpy as np
import pytest
from forks import command

from metapers.core.tables import RewardTable
from metapers.data import feature_store, reward_table
from metapers.data.manifest import Provenance

P, R, B = 350, 2, 5
TINY = (
  *forks.TINY,
  '--config.benchmark.learners=pooled',
)


@pytest.fixture(scope='module')
def store(tmp_path_factory):
  rng = np.random.default_rng(0)
  shared = rng.normal(size=(P, R, 1))
  rewards = (shared + rng.normal(size=(P, R, B)) * [1, 3, 0.1, 10, 1]).astype(np.float32)
  mask, split = np.ones((P, R), bool), np.repeat([0, 1, 2], [250, 50, 50]).astype(np.int8)
  mean, std = reward_table.statistics(rewards, mask, split)
  table = RewardTable(
    rewards=rewards, features=rng.normal(size=(P, R, 12)).astype(np.float32), mask=mask,
    reward_models=('helpful', 'safe', 'short', 'kind', 'right'),
    response_model=np.tile([0, 1], (P, 1)), response_models=('writer-a', 'writer-b'),
    mean=mean, std=std, prompt_split=split, source='made', manifest_hash='',
  )  # fmt: skip
  path = tmp_path_factory.mktemp('stores') / 'store'
  return feature_store.write_store(path, table, Provenance('made', 'by hand', 'CC0'))


@pytest.mark.parametrize('what', ['info', 'stats', 'diversity'])
def test_the_store_is_shown_without_columns_of_nothing(store, what):
  shown = command('store', what, f'--store={store}')
  assert shown.returncode == 0, shown.stderr
  assert 'nan' not in shown.stdout
  if what == 'diversity':
    assert shown.stdout.endswith('nothing is published for these response models\n')
    assert 'wins writer-a' in shown.stdout and 'paper' not in shown.stdout


def test_a_table_on_it_leaves_out_the_default_rival_and_says_so(store, tmp_path):
  config = '--config=experiments/configs/scores_gap.py:quick'
  given = (f'--config.population.kwargs.store={store}', f'--workdir={tmp_path / "table"}')
  made = command('benchmark', config, *given, *TINY)
  assert made.returncode == 0, made.stderr
  note = 'no win rates: openai/gpt-4o wrote none of the responses; evaluation.rival may be one of'
  assert f'{note} writer-a, writer-b\n' in made.stdout
  assert note in (tmp_path / 'table' / 'report.html').read_text()
  results = (tmp_path / 'table' / 'results.csv').read_text()
  assert 'win_rate' not in results and 'nan' not in results
