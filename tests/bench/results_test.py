import types

import evaluation_sets
import numpy as np
import pandas as pd
import pytest

from metapers.bench import report, results, tables
from metapers.bench.resampling import Resampled
from metapers.bench.settings import Setting
from metapers.evaluation import bootstrap

LABELS = {'protocol': 'demo', 'concentration': 0.05, 'temperature': 0.0, 'train_shots': None}
SHOTS = (0, 8)


def estimates(value, metric='accuracy', width=0.02):
  """One metric at two numbers of shots, its interval ± .95 of the width."""
  return {metric: value + evaluation_sets.spread(0.95 * width, 50) * np.ones((1, 2))}


def rows_of(learner, value=0.7, *, seed: int | str = 'all', metric='accuracy', **labels):
  labels = {**LABELS, 'learner': learner, 'seed': seed, **labels}
  return results.rows(estimates(value, metric), SHOTS, labels, num_users=50)


def join(*parts):
  return results.join(parts)


def test_columns_are_those_of_results_csv():
  assert ','.join(results.COLUMNS) == (
    'protocol,population,track,normalization,split,pair_rule,concentration,temperature,learner,seed,'
    'train_shots,train_steps,shots,metric,value,ci_low,ci_high,num_users'
  )
  assert tuple(rows_of('maml').columns) == results.COLUMNS


def test_one_row_a_number_and_empty_where_not_applicable(tmp_path):
  path = results.write_results(tmp_path / 'new' / 'results.csv', rows_of('maml', seed=3))
  header, first, second = path.read_text().splitlines()
  assert header.startswith('protocol,')
  assert first == 'demo,,,,,,0.05,0,maml,3,,,0,accuracy,0.7,0.681,0.719,50'
  assert second.split(',')[12] == '8'


def test_reading_gives_back_what_was_written(tmp_path):
  made = join(
    rows_of('maml'), rows_of('cnp', population='a "b", c'), rows_of('NA').assign(ci_low=np.nan)
  )
  path = results.write_results(tmp_path / 'results.csv', made)
  again = results.read_results(path)
  pd.testing.assert_frame_equal(again, made, rtol=1e-5, check_dtype=False)
  before = path.read_bytes()
  assert results.write_results(path, again).read_bytes() == before


def test_a_cell_measured_again_replaces_the_old_number(tmp_path):
  path = tmp_path / 'results.csv'
  results.append_results(path, join(rows_of('maml', 0.6), rows_of('cnp')))
  results.append_results(path, join(rows_of('maml', 0.8), rows_of('anil')))
  again = results.read_results(path)
  assert sorted(again['learner']) == ['anil'] * 2 + ['cnp'] * 2 + ['maml'] * 2
  assert set(again['value'][again['learner'] == 'maml']) == {0.8}


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
  path = results.write_results(tmp_path / 'results.csv', rows_of('maml'))
  before = path.read_bytes()
  with pytest.raises(KeyError):
    results.write_results(path, rows_of('cnp').drop(columns='value'))
  assert path.read_bytes() == before
  assert list(tmp_path.iterdir()) == [path]


def test_no_file_is_no_rows_and_a_foreign_one_is_refused(tmp_path):
  path = tmp_path / 'results.csv'
  assert not len(results.read_results(path))
  path.write_text('a,b\n1,2\n')
  with pytest.raises(ValueError, match='expected'):
    results.append_results(path, rows_of('maml'))
  path.write_text(','.join(results.COLUMNS) + '\n' + 'x,' * 13 + 'accuracy,much,,,5\n')
  with pytest.raises(ValueError, match='column value holds text'):
    results.read_results(path)
  path.write_text('"')
  with pytest.raises(ValueError, match='is no table of results'):
    results.read_results(path)


def test_unknown_labels_are_refused():
  with pytest.raises(ValueError, match=r'unknown columns noise; known: protocol'):
    rows_of('maml', noise=3)


def test_select_compares_as_written():
  made = join(rows_of('maml'), rows_of('maml', concentration=0.1))
  assert len(results.select(made, concentration=0.1, shots=8)) == 1
  assert len(results.select(made, concentration='0.05')) == 2


def test_references_stand_on_top_and_pooled_at_the_bottom():
  names = ['pooled', 'cnp', 'bayes_head', 'bayes', 'oracle', 'maml']
  table = tables.table(join(*map(rows_of, names)))
  assert [line[0] for line in table.body] == [
    'oracle', 'bayes', 'cnp', 'bayes_head', 'maml', 'pooled',
  ]  # fmt: skip
  assert table.header == ['learner', '0', '8']
  assert table.body[0][1] == '70.0 ± 1.9'


def test_nats_are_not_percent():
  made = join(rows_of('maml', 0.51234, metric='nll'), rows_of('maml', metric='nll_minus_bayes'))
  assert tables.table(made, metric='nll').body == [['maml', '0.512 ± 0.019', '0.512 ± 0.019']]
  assert 'nats' in tables.table(made, metric='nll_minus_bayes').caption


def test_differences_carry_their_sign_and_are_in_points():
  made = rows_of('maml', 0.03, metric='accuracy_minus_pooled')
  table = tables.table(made, metric='accuracy_minus_pooled')
  assert table.body == [['maml', '+3.0 ± 1.9', '+3.0 ± 1.9']]
  assert 'points' in table.caption


def three_seeds():
  """Two seeds of one learner, and their average."""
  return join(rows_of('maml', 0.6, seed=0), rows_of('maml', 0.8, seed=1), rows_of('maml', 0.7))


def test_a_table_shows_the_average_of_seeds_where_there_is_one():
  made = join(three_seeds(), rows_of('cnp', 0.5, seed=0))
  body = tables.table(made).body
  assert [line[:2] for line in body] == [['maml', '70.0 ± 1.9'], ['cnp', '50.0 ± 1.9']]


def a_setting(truth=None, resampled='', num_users=50, num_prompts=100):
  sizes = {'num_users': num_users, 'num_prompts': num_prompts, 'num_items': 1}
  evaluated = types.SimpleNamespace(**sizes, sizes=sizes)
  resampled = Resampled(resampled)
  return Setting('test', 'users', {}, (8,), (), (), None, truth, evaluated, {}, resampled=resampled)


def test_intervals_over_seeds_are_for_models_trained_anew():
  flat = np.zeros((4001, 1))
  seeds = {str(seed): {'accuracy': flat + value} for seed, value in enumerate((0.7, 0.72, 0.74))}
  found = results.rows_of(a_setting(), {'able': seeds, 'pooled': {'0': {'accuracy': flat + 0.6}}})
  over_all = results.select(found, learner='able', seed='all').set_index('metric')
  half = (over_all['ci_high'] - over_all['ci_low']) / 2
  expected = 4.303 * 0.02 / np.sqrt(3)  # t of two degrees of freedom
  np.testing.assert_allclose(half['accuracy'], expected, rtol=0.05)
  np.testing.assert_allclose(half['accuracy_minus_pooled'], expected, rtol=0.05)
  one = results.select(found, learner='able', seed='1', metric='accuracy').iloc[0]
  rule = 1 - 0.05 ** (1 / 50)  # of this trained model, on whom all users agree
  assert one.ci_low == pytest.approx(0.72 * (1 - rule))
  assert one.ci_high == pytest.approx(0.72 + 0.28 * rule)


def test_who_is_right_by_construction_is_certain_and_who_merely_was_right_is_not():
  found = {'accuracy': np.ones((17, 1))}
  certain, right = (
    results.rows(found, [8], {'learner': name}, num_users=20).iloc[0] for name in ('oracle', 'cnp')
  )
  assert (certain.ci_low, certain.ci_high) == (1, 1)
  assert right.ci_low == pytest.approx(0.05 ** (1 / 20)) and right.ci_high == 1


def test_the_note_says_of_which_differences_intervals_hold_at_once():
  assert report.note_of('accuracy_minus_cnp').endswith('for all pairs of learners at once')
  assert 'pairs' not in report.note_of('accuracy_minus_pooled') + report.note_of('accuracy')


def test_of_equal_learners_some_are_told_apart_in_a_twentieth_of_the_tables():
  num_learners, num_users, num_tables, rng = 8, 200, 120, np.random.default_rng(0)
  draws = bootstrap.draw(num_users, None, num_resamples=400, seed=0)
  apart = 0
  for _ in range(num_tables):
    common = rng.normal(size=(num_users, 1))  # some users are easier, to all learners
    values = draws.users @ (common + rng.normal(size=(num_users, num_learners))) / num_users
    own = {f'l{i}': {'0': {'accuracy': values[:, [i]]}} for i in range(num_learners)}
    found = results.rows_of(a_setting(num_users=num_users), own)
    differences = found[found['metric'] != 'accuracy']
    assert len(differences) == num_learners - 1
    apart += (differences['ci_high'] < 0).any()
  assert 0.01 < apart / num_tables < 0.09  # with intervals of one pair alone .49


@pytest.mark.parametrize(
  ('seeds', 'setting', 'said'),
  [
    (
      {'cnp': ['0']},
      a_setting(truth=1),
      'new users and new prompts, and for these trained models (one seed).',
    ),
    (
      {'cnp': ['all', '0', '1', '2'], 'bayes': ['']},
      a_setting(truth=1),
      'for models trained anew (3 seeds).',
    ),
    (
      {'cnp': ['all', '0', '1', '2'], 'maml': ['all', '0', '1'], 'mine': [''], 'pooled': ['0']},
      a_setting(truth=1),
      'for models trained anew (2 to 3 seeds); of mine, pooled for one trained model (one seed).',
    ),
    ({'cnp': ['0']}, a_setting(), 'new people who compare the same items, not for new items'),
    ({'cnp': ['0']}, a_setting(resampled='items'), 'new people and new items,'),
    ({'cnp': ['0']}, a_setting(resampled='contexts'), 'new people and new contexts,'),
    ({'cnp': ['0']}, a_setting(resampled='items', num_prompts=6), 'rough: there are only 6 items.'),
    ({'cnp': ['0']}, a_setting(truth=1, num_prompts=9), 'rough: there are only 9 prompts.'),
  ],
)
def test_a_line_says_for_whom_intervals_are(seeds, setting, said):
  pairs = [(learner, seed) for learner, own in seeds.items() for seed in own]
  assert said in report.spoken_for(pd.DataFrame(pairs, columns=['learner', 'seed']), setting)


def test_shots_that_a_learner_was_not_asked_leave_an_empty_cell():
  made = join(rows_of('maml'), results.select(rows_of('cnp'), shots=8))
  assert tables.table(made).body[1] == ['cnp', '', '70.0 ± 1.9']


def test_mixed_conditions_are_refused():
  made = join(rows_of('maml'), rows_of('maml', concentration=0.1))
  with pytest.raises(ValueError, match='select one condition'):
    tables.table(made)
  with pytest.raises(ValueError, match="no rows of metric 'nll'"):
    tables.table(made, metric='nll')


def test_text_columns_are_aligned():
  table = tables.table(join(rows_of('oracle', 1.0), rows_of('low_rank')))
  lines = tables.as_text(table).splitlines()[1:]
  assert len({len(line) for line in lines}) == 1


def test_curves_carry_intervals_and_the_points_of_single_seeds():
  maml, pooled = tables.curves(join(three_seeds(), rows_of('pooled', 0.5)))
  np.testing.assert_allclose(maml.value, 0.7)
  np.testing.assert_allclose([maml.low, maml.high], [[0.681] * 2, [0.719] * 2], rtol=1e-6)
  np.testing.assert_allclose(maml.points, [[0.6, 0.6], [0.8, 0.8]])
  assert (maml.role, pooled.role) == ('learner', 'baseline')
  assert pooled.points.shape == (0, 2)
