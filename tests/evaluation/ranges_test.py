"""No interval says what its metric cannot be: a share below 0, or above 1."""

import types

import evaluation_sets
import numpy as np
import pytest

from metapers.bench import results, tables
from metapers.evaluation import ranges

WIDE = 0.08 + evaluation_sets.spread(0.5, 20)  # [J, 1]: 8 %, and an interval below 0


def the_row(metric, samples):
  (row,) = results.rows({metric: samples}, (4,), {'learner': 'cnp'}, num_users=20).itertuples()
  return row


@pytest.mark.parametrize(
  'metric',
  [
    'accuracy', 'users_worse_than_pooled', 'selective_accuracy_50', 'accuracy@entropy:2', 'nll',
    'contested', 'contested_query', 'nearest_disagreement_median',
  ],
)  # fmt: skip
def test_an_interval_ends_where_the_metric_does(metric):
  row = the_row(metric, WIDE)
  assert row.ci_low == 0 < row.value < row.ci_high
  assert the_row('accuracy', 1 - WIDE).ci_high == 1


@pytest.mark.parametrize(
  'metric',
  [
    'is_best@best_arm', 'ended', 'disagreement', 'disagreement_query', 'nearest_disagreement_mean',
    'nearest_disagreement_none',
  ],
)  # fmt: skip
def test_no_share_of_users_is_certain(metric):
  assert the_row(metric, WIDE).ci_low == 0
  row = the_row(metric, np.ones_like(WIDE))
  assert row.ci_low == pytest.approx(0.05 ** (1 / 20)) and row.ci_high == 1


def test_a_share_of_comparisons_needs_no_other_users():
  row = the_row('contested', np.ones_like(WIDE))
  assert row.ci_low == row.ci_high == 1


@pytest.mark.parametrize('metric', ['accuracy_minus_pooled', 'brier_calibration', 'ece', 'pick_x'])
def test_what_may_be_negative_keeps_its_interval(metric):
  row = the_row(metric, WIDE)
  assert row.ci_high - row.value == pytest.approx(row.value - row.ci_low)
  assert row.ci_low < 0


def test_a_difference_of_shares_is_at_most_one():
  assert ranges.bounds('accuracy_minus_pooled@entropy:2') == (-1, 1)
  assert ranges.bounds('accuracy@group_minus_near') == (-1, 1)
  assert not ranges.is_share('accuracy@group_minus_near')
  assert ranges.bounds('nll_minus_pooled') == (-np.inf, np.inf)
  assert ranges.bounds('accuracy_share_of_bayes') == (-np.inf, np.inf)


def test_a_table_gives_the_longer_side_of_an_interval_that_was_cut():
  row = types.SimpleNamespace(metric='accuracy', value=0.08, ci_low=0.0, ci_high=0.26)
  assert tables.cell(row) == '8.0 ± 18.0'
