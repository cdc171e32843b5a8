"""People who may say "about the same" and "both bad": from a table to episodes."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from metapers.core import outcomes
from metapers.data.comparisons import load_comparisons
from metapers.evaluation import leaks
from metapers.populations import people as people_population

PEOPLE, ITEMS, ANSWERS = 20, 12, 16
NAMES = np.array(['chosen', 'tie', 'both_bad'])


def rows(seed=0):
  """Distinct pairs of each person, a third of them with an answer that prefers neither."""
  rng = np.random.default_rng(seed)
  made = []
  for person in range(PEOPLE):
    first, second = np.triu_indices(ITEMS, 1)
    some = rng.permutation(len(first))[:ANSWERS]
    swap = rng.random(ANSWERS) < 0.5
    pair = np.where(
      swap[:, None], *(np.stack(x, -1)[some] for x in ((first, second), (second, first)))
    )
    answer = rng.choice(NAMES, ANSWERS, p=[0.6, 0.3, 0.1])
    strength = np.where(answer == 'chosen', rng.integers(1, 4, ANSWERS), np.nan)
    made += [
      (f'p{person}', f'i{a}', f'i{b}', n, what, how)
      for n, ((a, b), what, how) in enumerate(zip(pair, answer, strength))
    ]
  return pd.DataFrame(
    made, columns=['user_id', 'chosen', 'rejected', 'order', 'outcome', 'strength']
  )


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  path = tmp_path_factory.mktemp('people')
  rng = np.random.default_rng(1)
  items = pd.DataFrame(rng.normal(size=(ITEMS, 2)), columns=['x', 'y'])
  items.insert(0, 'item_id', [f'i{n}' for n in range(ITEMS)])
  items.to_csv(path / 'items.csv', index=False)
  rows().to_csv(path / 'comparisons.csv', index=False)
  return path


def population(folder, **options):
  histories = load_comparisons(str(folder), ties='outcomes', **options)
  return people_population.people(histories, num_support=8, num_query=8), histories


def test_answers_of_the_table_are_those_of_the_histories(folder):
  histories = load_comparisons(str(folder), ties='outcomes', strong_from=3)
  table = rows()
  code = table['outcome'].map({'chosen': 0, 'tie': 1, 'both_bad': 2}).to_numpy()
  code = np.where((code == 0) & (table['strength'] == 3), 3, code)
  np.testing.assert_array_equal(histories.outcome.ravel(), code)


def test_dropped_ties_leave_the_choices(folder):
  dropped = load_comparisons(str(folder))
  assert dropped.outcome is None
  assert dropped.mask.sum() == (rows()['outcome'] == 'chosen').sum()
  spec = people_population.people(dropped, num_support=4, num_query=8).spec
  assert spec.num_candidates == 2
  assert spec.outcomes == ()


@pytest.mark.parametrize('strong_from', [0, 3])
def test_the_support_holds_every_answer_in_place(folder, strong_from):
  made, histories = population(folder, strong_from=strong_from)
  kinds = ('tie', 'both_bad', 'strong')[: 3 if strong_from else 2]
  assert made.spec.outcomes == kinds
  assert made.spec.num_features == 2 + len(kinds)
  assert made.spec.feature_names == ('x', 'y', *kinds)
  arrays = made.items.with_features(made.arrays, jnp.arange(ITEMS, dtype=jnp.float32)[:, None])
  task, _ = jax.jit(lambda user: made.episode_of(arrays, user, 'test'))(0)
  row = int(made.arrays.rows['test'][0])
  answered = np.asarray(histories.outcome[row, :8])
  shown = np.asarray(task.support.candidates.features)[..., 0]  # numbers of items
  choice = np.asarray(task.support.choice)
  for n, answer in enumerate(answered):
    first, second = histories.chosen[row, n], histories.rejected[row, n]
    assert set(shown[n, :2]) == {first, second}
    side = int(shown[n, 0] != first)
    assert choice[n] == {0: side, 1: 2, 2: 3, 3: 4 + side}[answer]
  assert task.support.candidates.mask.all()


def test_of_unseen_people_choices_alone_are_queried_as_choices_between_two(folder):
  made, histories = population(folder, strong_from=3)
  task, _ = jax.jit(lambda user: made.episode_of(made.arrays, user, 'test'))(0)
  row = int(made.arrays.rows['test'][0])
  is_choice = np.isin(histories.outcome[row, 8:], [0, 3])
  np.testing.assert_array_equal(task.query.mask, is_choice)
  assert not task.query.candidates.mask[:, 2:].any()
  assert set(np.asarray(task.query.choice[task.query.mask])) <= {0, 1}
  known, _ = jax.jit(lambda user: made.episode_of(made.arrays, user, 'train'))(0)
  assert known.query.candidates.mask[known.query.mask].all()


def test_a_table_with_ties_does_not_leak(folder):
  leaks.require_no_leaks(leaks.find_leaks(population(folder)[0]))


@pytest.mark.parametrize(
  ('column', 'value', 'message'),
  [
    ('outcome', 'neither', "holds \\['neither'\\]; known: chosen, tie, both_bad"),
    ('strength', 'much', "column 'strength' of comparisons must hold numbers"),
  ],
)
def test_unknown_answers_are_refused(folder, tmp_path, column, value, message):
  (tmp_path / 'items.csv').write_text((folder / 'items.csv').read_text())
  table = rows().astype({column: object})
  table.loc[3, column] = value
  table.to_csv(tmp_path / 'comparisons.csv', index=False)
  with pytest.raises(ValueError, match=message):
    load_comparisons(str(tmp_path), strong_from=3)


def test_answers_that_prefer_neither_are_no_choices():
  assert outcomes.prefers(jnp.arange(4)).tolist() == [True, False, False, True]
