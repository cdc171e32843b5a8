"""The table of any people, on few items and answers that coincide, as a user types it."""

import numpy as np
import pandas as pd
import pytest
from forks import command

from metapers.data import made_people

pytestmark = pytest.mark.slow

SHORT = (
  '--config.training.num_steps=20', '--config.training.steps_per_call=10',
  '--config.training.evaluate_every=10', '--config.evaluation.num_resamples=50',
)  # fmt: skip
LEARNERS = '--config.benchmark.learners=gaussian_prior,bayes_head,anil,pooled'


def rankings(folder, num_people=120):
  """Each person's ranking of eight items, as all of its comparisons."""
  rng = np.random.default_rng(0)
  utilities = rng.standard_normal(8) + rng.standard_normal((num_people, 8))
  names = np.array(list('abcdefgh'))
  ranked = names[np.argsort(-(utilities + rng.gumbel(size=utilities.shape)), 1)]
  better, worse = np.triu_indices(8, 1)
  table = {
    'user_id': np.repeat(np.arange(num_people), len(better)),
    'chosen': ranked[:, better].ravel(),
    'rejected': ranked[:, worse].ravel(),
  }
  pd.DataFrame({'item_id': names}).to_csv(folder / 'items.csv', index=False)
  pd.DataFrame(table).to_csv(folder / 'comparisons.csv', index=False)


def ten_items(folder):
  """Sixty people who compared ten items of four features."""
  sizes = {'num_people': 60, 'num_items': 10, 'num_features': 4}
  made_people.write_people(folder, 'gaussian', own_share=0.9, spread=4.0, **sizes)


def ratings(folder, num_people=60, num_items=30):
  """Ratings from 1 to 5, of half of the items each, whose ids are like 007."""
  rng = np.random.default_rng(0)
  ids = [f'{number:03}' for number in range(num_items)]
  items = rng.standard_normal((num_items, 3))
  weights = np.array([1.0, 0.0, 0.0]) + rng.standard_normal((num_people, 3))
  utilities = weights @ items.T + 0.5 * rng.standard_normal((num_people, num_items))
  rated = np.clip(np.round(3 + utilities / 1.5), 1, 5).astype(int)
  rows = [
    (f'{person:03}', ids[item], rated[person, item])
    for person in range(num_people)
    for item in rng.choice(num_items, num_items // 2, replace=False)
  ]
  pd.DataFrame({'item_id': ids}).to_csv(folder / 'items.csv', index=False)
  table = pd.DataFrame(rows, columns=['user_id', 'item_id', 'rating'])
  table.to_csv(folder / 'ratings.csv', index=False)


@pytest.mark.parametrize(
  ('write', 'left_out'), [(rankings, 'shots 20 are left out'), (ten_items, ''), (ratings, '')]
)
def test_any_people_are_a_table_and_no_leak_is_claimed(tmp_path, write, left_out):
  write(tmp_path)
  where = f'--config.population.kwargs.path={tmp_path}'
  done = command(
    'benchmark', '--config=experiments/configs/people.py:quick', where, LEARNERS, *SHORT,
    f'--workdir={tmp_path}/table',
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  assert 'leak of' not in done.stderr + done.stdout
  assert done.stderr.count('are left out') == bool(left_out)
  assert left_out in done.stderr
  found = pd.read_csv(tmp_path / 'table' / 'results.csv', dtype={'shots': str})
  gains = found[(found['metric'] == 'accuracy_minus_pooled') & (found['shots'] == '10')]
  assert set(gains['learner']) == {'gaussian_prior', 'bayes_head', 'anil'}
