"""What liars cost, read from estimates that are known."""

import numpy as np

from metapers.bench import poisoned_tables
from metapers.bench.plan import Condition
from metapers.bench.settings import Setting
from metapers.evaluation.estimates import EvaluationSet

SHOTS = (0, 4)


def condition(share, kind='reversed'):
  return Condition((), {'adversaries': kind, 'adversarial_share': share}, 'test', None, None)


def overall(lost, rng):
  noise = 0.001 * rng.standard_normal((200, 1))
  base = np.concatenate([np.zeros((1, 1)), noise]) + 0.8
  return {
    'oracle': {'accuracy': np.ones((201, 2))},
    'cnp': {'accuracy': np.concatenate([base, base - lost], 1)},
    'pooled': {'accuracy': np.concatenate([base, base], 1)},
  }


def made(shares, losses, kind='reversed'):
  evaluated = EvaluationSet(None, None, None, {}, None, 500, 500)
  users = Setting('', '', {}, SHOTS, (), (), None, None, evaluated, {})
  conditions = [condition(share, kind) for share in shares]
  settings = [users] * len(shares)
  given = [overall(lost, np.random.default_rng(7)) for lost in losses]
  return poisoned_tables.sections(conditions, settings, given, 1)


def test_the_cost_is_that_of_the_same_learner_without_liars():
  (section,) = made([0.2, 0.0, 0.1], [0.03, 0.0, 0.005])
  (table,) = section.tables
  assert table.header == ['learner', '10%', '20%', 'one point']
  rows = {row[0]: row[1:] for row in table.body}
  assert list(rows) == ['cnp', 'pooled']  # the oracle learns from nobody
  assert rows['cnp'][0].startswith('-0.5') and rows['cnp'][1].startswith('-3.0')
  assert rows['cnp'][2].startswith('12.0%')
  assert rows['pooled'][2] == '> 20% (> 20% to > 20%)'


def test_one_share_is_no_table():
  assert made([0.0], [0.0]) == []


def test_liars_beside_no_honest_users_are_no_table():
  assert made([0.1, 0.2], [0.0, 0.01]) == []
