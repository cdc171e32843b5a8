"""A section of a page repeats nothing: one number is a line, and no table stands twice."""

import types

import evaluation_sets
import numpy as np

from metapers.bench import report, results, tables
from metapers.bench.settings import Setting

NOTHING = evaluation_sets.spread(0.0, 50) + np.zeros(2)  # [J, 2]


def constant(value):
  return value + NOTHING


def a_setting():
  return Setting(
    name='test',
    title='50 users',
    labels={'protocol': 'demo'},
    shots=(0, 4),
    populations=(types.SimpleNamespace(record={}, source='synthetic'),),
    sizes=(50,),
    tasks=None,
    truth=object(),
    evaluated=types.SimpleNamespace(num_users=50, num_items=1, num_prompts=1),
    trained={},
  )


def section_of(**found):
  rows = [
    results.rows(own, (0, 4), {'protocol': 'demo', 'learner': name}, num_users=50)
    for name, own in found.items()
  ]
  return report.section(results.join(rows), a_setting())


def captions(section):
  return [table.caption.split()[0] for table in section.tables]


def learner(accuracy, noiseless):
  return {
    'accuracy': constant(np.array(accuracy)),
    'accuracy_noiseless': constant(np.array(noiseless)),
    'win_rate_oracle': constant(0.871),
  }


def test_a_metric_with_one_number_for_all_is_a_line():
  section = section_of(cnp=learner([0.7, 0.8], [0.7, 0.8]), pooled=learner([0.7, 0.7], [0.7, 0.7]))
  assert 'win_rate_oracle' not in captions(section)
  (line,) = [line for line in section.text if line.startswith('win_rate_oracle')]
  assert line.startswith('win_rate_oracle is 87.1 ± 5.1 % in every row, after any number: ')


def test_accuracy_without_noise_is_left_out_where_users_have_none():
  same, other = learner([0.7, 0.8], [0.7, 0.8]), learner([0.7, 0.8], [0.7, 0.9])
  pooled = learner([0.7, 0.7], [0.7, 0.7])
  assert captions(section_of(cnp=same, pooled=pooled)) == ['accuracy']
  assert captions(section_of(cnp=other, pooled=pooled)) == ['accuracy', 'accuracy_noiseless']


def test_a_table_of_one_row_is_a_table():
  assert captions(section_of(cnp=learner([0.7, 0.7], [0.7, 0.7]))) == [
    'accuracy',
    'win_rate_oracle',
  ]


def test_no_number_is_minus_zero():
  row = types.SimpleNamespace(metric='nll', value=-1e-9, ci_low=-1e-9, ci_high=-1e-9)
  assert tables.cell(row) == '0.000 ± 0.000'
  row.metric = 'accuracy_minus_pooled'
  assert tables.cell(row) == '+0.0 ± 0.0'


def test_the_worst_decile_may_exceed_the_mean_and_its_caption_says_so():
  assert 'may exceed the mean' in report.explanation('accuracy_worst_decile')


def test_what_of_people_is_left_out_is_said_with_the_data():
  said = 'left out: 2 people with fewer than 2 comparisons (2 in all)'
  assert report.data_in_words('mine', {'remarks': said}) == f'mine; {said}'
  assert report.data_in_words('mine', {}) == 'mine'
