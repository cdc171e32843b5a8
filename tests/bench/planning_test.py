import itertools

import pandas as pd
import pytest

from metapers.bench import planning, results


def row(learner, users, labels, value, shots=8, seed='0', more=''):
  protocol = f'budget num_users={users} num_labels={labels}{more}'
  own = {'protocol': protocol, 'learner': learner, 'shots': str(shots), 'metric': 'accuracy'}
  numbers = {'value': value, 'ci_low': value, 'ci_high': value, 'num_users': 500}
  empty = dict.fromkeys(results.COLUMNS, '')
  return pd.DataFrame([empty | own | numbers | {'split': 'test', 'seed': seed}])


@pytest.fixture(scope='module')
def frame():
  pairs = list(itertools.product((50, 200, 1000), (8, 32, 128)))
  rows = [row('cnp', m, n, 0.95 - 0.5 * m**-0.6 * n**-0.2) for m, n in pairs]
  rows += [row('maml', m, n, 0.9 - 0.5 * m**-0.2 * n**-0.6) for m, n in pairs]
  return results.join([*rows, row('pooled', 50, 8, 0.7, shots=4)])


def test_who_needs_users_is_given_users(frame):
  users, labels = (planning.plan(frame, name, 8, 10_000).design for name in ('cnp', 'maml'))
  assert users.num_users > 3 * labels.num_users
  assert users.num_users * users.num_labels <= 10_000


def test_the_best_learner_stands_on_top(frame):
  planned = [planning.plan(frame, name, 8, 10_000) for name in ('maml', 'cnp')]
  table = planning.table_of(planned, 10_000, 8)
  assert [line[0] for line in table.body] == ['cnp', 'maml']
  assert table.body[0][-1] == '0.0'


def test_rows_of_no_learner_are_left_out(frame):
  facts = row('', 50, 8, 0.4).assign(metric='contested')
  references = [row(name, 50, 8, 0.9) for name in ('bayes', 'oracle')]
  found = planning.learners_of(results.join([facts, *references, frame]))
  assert found == ['cnp', 'maml']


def test_a_panel_for_each_number_of_labels_has_a_line_for_each_learner(frame):
  made = planning.figure(frame, ['cnp', 'maml'], 8)
  titles = [axis.get_title(loc='left') or axis.get_title() for axis in made.axes]
  assert titles == ['8 labels each', '32 labels each', '128 labels each']
  for axis, labels in zip(made.axes, (8, 32, 128), strict=True):
    cnp, _ = axis.get_lines()
    expected = [100 * (0.95 - 0.5 * users**-0.6 * labels**-0.2) for users in (50, 200, 1000)]
    assert list(cnp.get_xdata()) == [50, 200, 1000]
    assert list(cnp.get_ydata()) == pytest.approx(expected)


def test_results_without_budgets_are_refused(frame):
  with pytest.raises(ValueError, match="no budgets of 'cnp' after 3 comparisons"):
    planning.plan(frame, 'cnp', 3, 10_000)


@pytest.mark.parametrize(
  ('other', 'field'),
  [
    (row('cnp', 50, 8, 0.7, more=' flip_rate=0.2'), 'flip_rate'),
    (row('cnp', 50, 8, 0.7).assign(concentration='1'), 'concentration'),
  ],
)
def test_budgets_of_several_kinds_of_users_are_refused(frame, other, field):
  with pytest.raises(ValueError, match=f'differ in {field}, too'):
    planning.plan(results.join([frame, other]), 'cnp', 8, 10_000)


def test_options_stand_behind_the_name_of_a_protocol():
  assert results.changes_of('budget num_users=50 num_labels=8') == {
    'num_users': '50',
    'num_labels': '8',
  }
  assert results.changes_of('metapers') == {}
