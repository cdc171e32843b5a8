"""Tables of comparisons or ratings become histories; bad tables are refused with a way out."""

import os
import time

import numpy as np
import pandas as pd
import pytest
from absl import logging
from hypothesis import given
from hypothesis import strategies as st

from metapers.data import comparisons

ITEMS = pd.DataFrame({'item_id': [10, 20, 30, 40], 'context': [0, 0, 0, 1]})
CHOSEN = pd.DataFrame(
  [('ann', 10, 20, 2), ('bob', 30, 10, 0), ('ann', 20, 30, 1), ('ann', 30, 10, 0)],
  columns=['user_id', 'chosen', 'rejected', 'order'],
)


def write(folder, *, suffix='.csv', **tables):
  for name, table in tables.items():
    if suffix == '.csv':
      table.to_csv(folder / f'{name}.csv', index=False)
    else:
      table.to_parquet(folder / f'{name}.parquet')
  return str(folder)


def with_row(table, *values):
  return pd.concat([table, pd.DataFrame([values], columns=table.columns)], ignore_index=True)


@pytest.mark.parametrize('suffix', ['.csv', '.parquet'])
def test_comparisons_stand_in_the_persons_own_order(tmp_path, suffix):
  path = write(tmp_path, suffix=suffix, items=ITEMS, comparisons=CHOSEN)
  histories = comparisons.load_comparisons(path, min_comparisons=1)
  assert histories.user_ids.tolist() == ['ann', 'bob']
  assert histories.item_ids.tolist() == ['10', '20', '30', '40']
  np.testing.assert_array_equal(histories.mask, [[1, 1, 1], [1, 0, 0]])
  np.testing.assert_array_equal(histories.chosen[0], [2, 1, 0])
  np.testing.assert_array_equal(histories.rejected[0], [0, 2, 1])
  np.testing.assert_array_equal([histories.chosen[1, 0], histories.rejected[1, 0]], [2, 0])
  np.testing.assert_array_equal(histories.context, [0, 0, 0, 1])


def test_without_an_order_the_seed_draws_one(tmp_path):
  chosen = np.arange(1, 41)
  items = pd.DataFrame({'item_id': np.arange(41)})
  compared = pd.DataFrame({'user_id': 0, 'chosen': chosen, 'rejected': 0})
  path = write(tmp_path, items=items, comparisons=compared)
  first, again, other = (
    comparisons.load_comparisons(path, pair_seed=seed).chosen[0].tolist() for seed in (0, 0, 1)
  )
  assert sorted(first) == chosen.tolist()
  assert first == again != other
  assert first != chosen.tolist()


def test_people_with_few_comparisons_are_left_out_and_counted(tmp_path):
  path = write(tmp_path, items=ITEMS, comparisons=CHOSEN)
  histories = comparisons.load_comparisons(path, min_comparisons=2)
  assert histories.user_ids.tolist() == ['ann']
  assert histories.num_dropped == 1
  said = 'left out: 1 people with fewer than 2 comparisons (1 in all)'
  assert histories.remarks == said
  with pytest.raises(ValueError, match=r'none of 2 people .*min_comparisons=4.* is 3: lower it'):
    comparisons.load_comparisons(path, min_comparisons=4)


def test_rows_that_stand_again_and_ties_are_said(tmp_path):
  unordered = CHOSEN.drop(columns='order')
  path = write(tmp_path, items=ITEMS, comparisons=pd.concat([unordered, unordered[:1]]))
  histories = comparisons.load_comparisons(path, min_comparisons=1)
  assert histories.remarks == '1 rows stand there again, and count again'
  tied = CHOSEN.assign(outcome=['tie', *['chosen'] * (len(CHOSEN) - 1)])
  path = write(tmp_path, items=ITEMS, comparisons=tied)
  histories = comparisons.load_comparisons(path, min_comparisons=1)
  assert histories.remarks == 'left out: 1 answers that prefer neither item'
  assert not comparisons.load_comparisons(path, min_comparisons=1, ties='outcomes').remarks


def test_the_first_comparisons_are_kept(tmp_path):
  path = write(tmp_path, items=ITEMS, comparisons=CHOSEN)
  histories = comparisons.load_comparisons(path, min_comparisons=1, max_comparisons=2)
  np.testing.assert_array_equal(histories.chosen[0], [2, 1])
  assert histories.chosen.shape == (2, 2)


def test_the_hash_tells_contents_apart(tmp_path):
  path = write(tmp_path, items=ITEMS, comparisons=CHOSEN)
  one = comparisons.load_comparisons(path).content_hash
  assert comparisons.load_comparisons(path).content_hash == one
  flipped = CHOSEN.rename(columns={'chosen': 'rejected', 'rejected': 'chosen'})
  write(tmp_path, comparisons=flipped)
  assert comparisons.load_comparisons(path).content_hash != one


def test_the_hash_tells_the_contexts_apart_that_items_are_held_out_by(tmp_path):
  pairs = CHOSEN.drop_duplicates(['chosen', 'rejected']).iloc[:1]
  hashes = []
  for others in ('a', 'b'):
    shown = set(pairs[['chosen', 'rejected']].to_numpy().ravel())
    contexts = [f'{"a" if item in shown else others}' for item in ITEMS['item_id']]
    path = write(tmp_path, items=ITEMS.assign(context=contexts), comparisons=pairs)
    hashes.append(comparisons.load_comparisons(path, min_comparisons=1).content_hash)
  assert hashes[0] != hashes[1]


def test_items_are_one_hot_without_features(tmp_path):
  path = write(tmp_path, items=ITEMS.assign(text='?'), comparisons=CHOSEN)
  histories = comparisons.load_comparisons(path)
  assert histories.identity
  assert histories.features.shape == (4, 0)  # rows are made when an episode is built


def test_features_are_columns_or_an_npy_file(tmp_path):
  items = ITEMS.assign(wit=[0.5, 1, 2, 3], length=[9, 8, 7, 6])
  path = write(tmp_path, items=items, comparisons=CHOSEN)
  np.save(tmp_path / 'embedded.npy', np.ones((4, 5)))
  np.save(tmp_path / 'small.npy', np.ones((4, 5), np.float16))

  def load(features):
    return comparisons.load_comparisons(path, features=features)

  np.testing.assert_array_equal(load(None).features, items[['wit', 'length']])
  np.testing.assert_array_equal(load(['length']).features, items[['length']])
  np.testing.assert_array_equal(load('length').features, items[['length']])
  np.testing.assert_array_equal(load('embedded.npy').features, np.ones((4, 5)))
  assert load('small.npy').features.dtype == np.float32  # embeddings take no more memory
  assert load(()).identity
  assert not load(None).identity
  assert load(None).features.dtype == load('embedded.npy').features.dtype == np.float64


def test_a_context_may_stand_in_the_comparisons_alone(tmp_path):
  items = ITEMS.drop(columns='context')
  path = write(tmp_path, items=items, comparisons=CHOSEN.assign(context='bottled water'))
  histories = comparisons.load_comparisons(path)
  np.testing.assert_array_equal(histories.context, [0, 0, 0, -1])


def test_an_id_that_pandas_takes_for_missing_is_kept_by_the_recipe_of_the_message(tmp_path):
  named = {10: 'NA', 20: 'None', 30: 'x', 40: 'y'}
  items, chosen = ITEMS.replace({'item_id': named}), CHOSEN.replace(named)
  path = write(tmp_path, items=items, comparisons=chosen)
  pd.read_csv(tmp_path / 'items.csv', dtype=str, keep_default_na=False).to_csv(
    tmp_path / 'items.csv', index=False
  )
  kept = comparisons.load_comparisons(path, min_comparisons=1).item_ids
  assert kept.tolist() == ['NA', 'None', 'x', 'y']
  pd.read_csv(tmp_path / 'items.csv', dtype=str).to_csv(tmp_path / 'items.csv', index=False)
  with pytest.raises(ValueError, match=r"2 missing .*'item_id'.* NA, None .*keep_default_na"):
    comparisons.load_comparisons(path, min_comparisons=1)


BAD_TABLES = {
  "names 1 unknown items, such as ['77']": {'comparisons': with_row(CHOSEN, 'ann', 77, 10, 3)},
  'an item is compared with itself': {'comparisons': with_row(CHOSEN, 'ann', 10, 10, 3)},
  'the items are of different contexts': {'comparisons': with_row(CHOSEN, 'ann', 10, 40, 3)},
  'is used in context 5': {'comparisons': CHOSEN.assign(context=5)},
  "item_id must be unique in items; ['10']": {'items': with_row(ITEMS, 10, 0)},
  "table comparisons lacks the columns ['chosen']": {'comparisons': CHOSEN.drop(columns='chosen')},
  "table items lacks the columns ['item_id']": {'items': ITEMS.drop(columns='item_id')},
  "1 missing values in 'order' of comparisons": {
    'comparisons': CHOSEN.assign(order=[1, 2, 3, np.nan])
  },
  "1 missing values in 'chosen' of comparisons, the first in row 2 of user_id ": {
    'comparisons': CHOSEN.assign(chosen=[CHOSEN['chosen'][0], None, *CHOSEN['chosen'][2:]])
  },
  "1 missing values in 'wit' of items": {'items': ITEMS.assign(wit=[1, 2, np.nan, 3])},
  "non-finite features, such as ['30']": {'items': ITEMS.assign(wit=[1, 2, np.inf, 3])},
  "have non-finite features, such as ['20']": {'items': ITEMS.assign(wit=[1, 1e39, 2, 3])},
  "columns ['wit'] of items must be numbers": {'items': ITEMS.assign(wit=list('abcd'))},
  "column 'weight' of comparisons is not read": {'comparisons': CHOSEN.assign(weight=2)},
  'comparisons.csv has no rows': {'comparisons': CHOSEN[:0]},
  'items.csv has no rows': {'items': ITEMS[:0]},
  'must hold either comparisons or ratings': {'ratings': CHOSEN},
}


@pytest.mark.parametrize('message', BAD_TABLES)
def test_bad_tables_are_refused(tmp_path, message):
  write(tmp_path, **({'items': ITEMS, 'comparisons': CHOSEN} | BAD_TABLES[message]))
  with pytest.raises(ValueError) as raised:
    comparisons.load_comparisons(str(tmp_path))
  assert message in str(raised.value)


@pytest.mark.parametrize('column', ['user_id', 'order'])
def test_columns_of_choices_are_features_of_items_only_by_name(tmp_path, column):
  path = write(tmp_path, items=ITEMS.assign(**{column: [4, 3, 2, 1]}), comparisons=CHOSEN)
  with pytest.raises(ValueError, match=rf"columns \['{column}'\] of items are named like those of"):
    comparisons.load_comparisons(path)
  np.testing.assert_array_equal(
    comparisons.load_comparisons(path, features=column).features[:, 0], [4, 3, 2, 1]
  )


def said_of(folder, monkeypatch, table):
  """Lines of the log when a table of comparisons is read."""
  lines = []
  monkeypatch.setattr(logging, 'warning', lambda line, *given: lines.append(line % given))
  comparisons.load_comparisons(write(folder, items=ITEMS, comparisons=table))
  return lines


def test_columns_that_are_not_read_are_named(tmp_path, monkeypatch):
  assert said_of(tmp_path, monkeypatch, CHOSEN.assign(turn=0, conversation='a')) == []
  lines = said_of(tmp_path, monkeypatch, CHOSEN.assign(tie=0, date='today', mood='good'))
  assert lines == ['columns of comparisons that are not read: tie, date, mood']


def test_a_time_without_an_order_is_named(tmp_path, monkeypatch):
  lines = said_of(tmp_path, monkeypatch, CHOSEN.rename(columns={'order': 'Timestamp'}))
  assert lines[0] == 'comparisons have no order: if Timestamp tells it, rename it to order'


BAD_OPTIONS = {
  'columns': (
    {'features': ['charm']},
    r"table items lacks the columns \['charm'\]; it has \['item_id', 'context'\]",
  ),
  'npy': ({'features': 'none.npy'}, r'none\.npy is missing'),
  'column': ({'features': 'charm'}, r"table items lacks the columns \['charm'\]"),
  'rows': ({'features': 'short.npy'}, r'must be numbers of shape \[4, D\].*\[3, 2\]'),
  'gap': ({'min_rating_gap': -1.0}, r'min_rating_gap must be >= 0, got -1'),
  'minimum': ({'min_comparisons': 0}, r'1 <= min_comparisons <= max_comparisons, got 0'),
  'raters': ({'complete_raters_only': True}, r'complete_raters_only needs a table of ratings'),
}


@pytest.mark.parametrize('name', BAD_OPTIONS)
def test_bad_options_are_refused(tmp_path, name):
  options, message = BAD_OPTIONS[name]
  np.save(tmp_path / 'short.npy', np.ones((3, 2)))
  path = write(tmp_path, items=ITEMS, comparisons=CHOSEN)
  with pytest.raises(ValueError, match=message):
    comparisons.load_comparisons(path, **options)


@pytest.mark.parametrize('path', ['', '/nowhere/at/all'])
def test_a_missing_folder_is_refused(path):
  with pytest.raises(ValueError, match=r'is no folder; give one that holds items'):
    comparisons.load_comparisons(path)


@pytest.mark.parametrize('name', ['items.csv', 'items.parquet'])
def test_an_unreadable_file_is_named(tmp_path, name):
  (tmp_path / name).write_bytes(b'')
  with pytest.raises(ValueError, match=f'{name} cannot be read'):
    comparisons.load_comparisons(str(tmp_path))


def test_a_table_twice_or_not_at_all_is_refused(tmp_path):
  with pytest.raises(ValueError, match=r'items.parquet or items.csv; found neither'):
    comparisons.load_comparisons(str(tmp_path))
  write(tmp_path, items=ITEMS)
  write(tmp_path, items=ITEMS, suffix='.parquet')
  with pytest.raises(ValueError, match='found both'):
    comparisons.load_comparisons(str(tmp_path))


def write_ratings(folder, ratings, **items):
  num_items = 1 + max(row[1] for row in ratings)
  pd.DataFrame({'item_id': range(num_items), **items}).to_csv(folder / 'items.csv', index=False)
  columns = ['user_id', 'item_id', 'rating', 'order'][: len(ratings[0])]
  pd.DataFrame(ratings, columns=columns).to_csv(folder / 'ratings.csv', index=False)
  return str(folder)


def pairs_of(histories, user=0):
  real = histories.mask[user]
  return list(zip(histories.chosen[user, real].tolist(), histories.rejected[user, real].tolist()))


@given(
  ratings=st.lists(st.integers(-3, 3), max_size=8),
  contexts=st.lists(st.integers(0, 1), min_size=8, max_size=8),
  gap=st.sampled_from([0.0, 1.0, 2.0, 3.0]),
  most=st.integers(1, 40),
)
def test_drawn_pairs_are_the_clear_ones_each_once(ratings, contexts, gap, most):
  contexts = np.array(contexts)[: len(ratings)]
  better, worse = comparisons.draw_pairs(
    np.array(ratings, float),
    contexts,
    None,
    np.random.default_rng(0),
    min_rating_gap=gap,
    max_comparisons=most,
  )
  size = range(len(ratings))
  clear = {
    (i, j) for i in size for j in size
    if ratings[i] - ratings[j] > gap and contexts[i] == contexts[j]
  }  # fmt: skip
  drawn = list(zip(better.tolist(), worse.tolist()))
  assert len(drawn) == len(set(drawn)) == min(most, len(clear))
  assert set(drawn) <= clear


def test_float32_rounding_makes_no_pair_clear():
  ratings = np.array([1.07, 0.07], np.float32).astype(float)
  assert ratings[0] - ratings[1] > 1
  better, _ = comparisons.draw_pairs(
    ratings, np.zeros(2, int), None, np.random.default_rng(0), min_rating_gap=1.0, max_comparisons=9
  )
  assert better.size == 0


def test_a_gap_of_0_leaves_out_ties_alone(tmp_path):
  path = write_ratings(tmp_path, [('a', 0, 1e-6), ('a', 1, 3e-6), ('a', 2, 1e-6)])
  pairs = pairs_of(comparisons.load_comparisons(path, min_rating_gap=0.0))
  assert sorted(pairs) == [(1, 0), (1, 2)]


def test_ratings_within_the_gap_name_it_and_their_range(tmp_path):
  path = write_ratings(tmp_path, [('a', 0, 0.1), ('a', 1, 0.9), ('b', 0, 0.5)])
  with pytest.raises(ValueError, match=r'min_rating_gap=1\.0; ratings lie in 0\.1\.\.0\.9: lower'):
    comparisons.load_comparisons(path)
  assert comparisons.load_comparisons(path, min_rating_gap=0.5, min_comparisons=1).mask.sum() == 1


def test_pairs_stand_where_their_later_item_was_rated(tmp_path):
  ratings = [('a', item, 9 - 2 * item, 10 * item) for item in (2, 0, 3, 1, 4)]
  histories = comparisons.load_comparisons(write_ratings(tmp_path, ratings))
  later = [max(pair) for pair in pairs_of(histories)]
  assert later == [1, 2, 2, 3, 3, 3, 4, 4, 4, 4]


def test_people_whose_ratings_hardly_differ_are_counted(tmp_path):
  ratings = [(7, 0, 1.0), (7, 1, 3.0), (8, 0, 1.0), (8, 1, 2.0), (9, 1, 3.0)]
  histories = comparisons.load_comparisons(write_ratings(tmp_path, ratings), min_comparisons=1)
  assert histories.user_ids.tolist() == ['7']
  assert histories.num_dropped == 2


def test_rated_items_of_different_contexts_are_not_compared(tmp_path):
  path = write_ratings(tmp_path, [(0, 0, 9), (0, 1, 1), (0, 2, 1)], context=['x', 'y', 'x'])
  assert pairs_of(comparisons.load_comparisons(path, min_comparisons=1)) == [(0, 2)]


def test_complete_raters_are_kept(tmp_path):
  path = write_ratings(tmp_path, [(0, 0, 9), (1, 0, 9), (1, 1, 1), (2, 1, 5)])
  histories = comparisons.load_comparisons(path, min_comparisons=1, complete_raters_only=True)
  assert histories.user_ids.tolist() == ['1']
  assert histories.num_dropped == 0


BAD_RATINGS = {
  r'user_id=0 rates item_id=1 more than once': [(0, 0, 9), (0, 1, 1), (0, 1, 2)],
  r"1 missing values in 'rating' of ratings": [(0, 0, 9), (0, 1, None)],
  r"columns \['rating'\] of ratings must be numbers": [(0, 0, 'good'), (0, 1, 'bad')],
  r'1 ratings are not finite': [(0, 0, np.inf), (0, 1, 1)],
}


@pytest.mark.parametrize('message', BAD_RATINGS)
def test_bad_ratings_are_refused(tmp_path, message):
  path = write_ratings(tmp_path, BAD_RATINGS[message])
  with pytest.raises(ValueError, match=message):
    comparisons.load_comparisons(path, min_comparisons=1)


def test_no_complete_rater_is_an_error(tmp_path):
  path = write_ratings(tmp_path, [(0, 0, 9), (1, 1, 9)])
  with pytest.raises(ValueError, match=r'no person rated all 2 items \(the most is 1\); set'):
    comparisons.load_comparisons(path, complete_raters_only=True)


@pytest.mark.skipif(not os.environ.get('METAPERS_JESTER'), reason='METAPERS_JESTER is not set')
def test_the_complete_raters_of_jester_are_read_quickly():
  start = time.monotonic()
  histories = comparisons.load_comparisons(os.environ['METAPERS_JESTER'], complete_raters_only=True)
  assert time.monotonic() - start < 20  # 0.4 s on two idle cores
  assert len(histories.user_ids) == 1473
  assert histories.chosen.shape == (1473, 400)
  assert histories.features.shape == (100, 0)
  assert histories.mask.sum() == 588_526


@pytest.mark.skipif(not os.environ.get('METAPERS_UKPCONVARG'), reason='METAPERS_UKPCONVARG unset')
def test_all_of_ukpconvarg_is_read():
  histories = comparisons.load_comparisons(
    os.environ['METAPERS_UKPCONVARG'], min_comparisons=1, max_comparisons=10_000
  )
  assert len(histories.user_ids) == 3801
  assert histories.mask.sum() == 65_340
  assert histories.features.shape == (1052, 0)
  assert np.unique(histories.context).size == 32
  assert np.median(histories.mask.sum(1)) == 4
