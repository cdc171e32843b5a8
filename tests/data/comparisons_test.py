"""Tables of comparisons become histories, and every bad table is refused with a way out."""

import os

import numpy as np
import pandas as pd
import pytest

from metapers.data import comparisons

ITEMS = pd.DataFrame({'item_id': [10, 20, 30, 40], 'context': [0, 0, 0, 1]})
JUDGED = pd.DataFrame(
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
  path = write(tmp_path, suffix=suffix, items=ITEMS, comparisons=JUDGED)
  histories = comparisons.load_comparisons(path, min_comparisons=1)
  assert histories.user_ids.tolist() == ['ann', 'bob']
  assert histories.item_ids.tolist() == [10, 20, 30, 40]
  np.testing.assert_array_equal(histories.mask, [[1, 1, 1], [1, 0, 0]])
  np.testing.assert_array_equal(histories.chosen[0], [2, 1, 0])
  np.testing.assert_array_equal(histories.rejected[0], [0, 2, 1])
  np.testing.assert_array_equal([histories.chosen[1, 0], histories.rejected[1, 0]], [2, 0])
  np.testing.assert_array_equal(histories.context, [0, 0, 0, 1])


def test_without_an_order_the_seed_draws_one(tmp_path):
  chosen = np.arange(1, 41)
  items = pd.DataFrame({'item_id': np.arange(41)})
  judged = pd.DataFrame({'user_id': 0, 'chosen': chosen, 'rejected': 0})
  path = write(tmp_path, items=items, comparisons=judged)
  first, again, other = (
    comparisons.load_comparisons(path, pair_seed=seed).chosen[0].tolist() for seed in (0, 0, 1)
  )
  assert sorted(first) == chosen.tolist()
  assert first == again != other
  assert first != chosen.tolist()


def test_people_with_few_comparisons_are_left_out_and_counted(tmp_path):
  path = write(tmp_path, items=ITEMS, comparisons=JUDGED)
  histories = comparisons.load_comparisons(path, min_comparisons=2)
  assert histories.user_ids.tolist() == ['ann']
  assert histories.num_dropped == 1
  with pytest.raises(ValueError, match=r'none of 2 people .*min_comparisons=4.* is 3: lower it'):
    comparisons.load_comparisons(path, min_comparisons=4)


def test_the_first_comparisons_are_kept(tmp_path):
  path = write(tmp_path, items=ITEMS, comparisons=JUDGED)
  histories = comparisons.load_comparisons(path, min_comparisons=1, max_comparisons=2)
  np.testing.assert_array_equal(histories.chosen[0], [2, 1])
  assert histories.chosen.shape == (2, 2)


def test_the_hash_tells_contents_apart(tmp_path):
  path = write(tmp_path, items=ITEMS, comparisons=JUDGED)
  one = comparisons.load_comparisons(path).content_hash
  assert comparisons.load_comparisons(path).content_hash == one
  flipped = JUDGED.rename(columns={'chosen': 'rejected', 'rejected': 'chosen'})
  write(tmp_path, comparisons=flipped)
  assert comparisons.load_comparisons(path).content_hash != one


def test_items_are_one_hot_without_features(tmp_path):
  path = write(tmp_path, items=ITEMS.assign(text='?'), comparisons=JUDGED)
  histories = comparisons.load_comparisons(path)
  assert histories.identity
  np.testing.assert_array_equal(histories.features, np.eye(4))


def test_features_are_columns_or_an_npy_file(tmp_path):
  items = ITEMS.assign(wit=[0.5, 1, 2, 3], length=[9, 8, 7, 6])
  path = write(tmp_path, items=items, comparisons=JUDGED)
  np.save(tmp_path / 'embedded.npy', np.ones((4, 5)))

  def load(features):
    return comparisons.load_comparisons(path, features=features)

  np.testing.assert_array_equal(load(None).features, items[['wit', 'length']])
  np.testing.assert_array_equal(load(['length']).features, items[['length']])
  np.testing.assert_array_equal(load('embedded.npy').features, np.ones((4, 5)))
  assert load(()).identity
  assert not load(None).identity
  assert load(None).features.dtype == np.float32


def test_context_may_be_told_by_the_judgements_alone(tmp_path):
  items = ITEMS.drop(columns='context')
  path = write(tmp_path, items=items, comparisons=JUDGED.assign(context='bottled water'))
  histories = comparisons.load_comparisons(path)
  np.testing.assert_array_equal(histories.context, [0, 0, 0, -1])


BAD_TABLES = {
  'names 1 unknown items, such as [77]': {'comparisons': with_row(JUDGED, 'ann', 77, 10, 3)},
  'an item is compared with itself': {'comparisons': with_row(JUDGED, 'ann', 10, 10, 3)},
  'the items are of different contexts': {'comparisons': with_row(JUDGED, 'ann', 10, 40, 3)},
  'is judged in context 5': {'comparisons': JUDGED.assign(context=5)},
  'item_id must be unique in items; [10]': {'items': with_row(ITEMS, 10, 0)},
  "table comparisons lacks the columns ['chosen']": {'comparisons': JUDGED.drop(columns='chosen')},
  "table items lacks the columns ['item_id']": {'items': ITEMS.drop(columns='item_id')},
  "1 missing values in 'order' of comparisons": {
    'comparisons': JUDGED.assign(order=[1, 2, 3, np.nan])
  },
  "1 missing values in 'wit' of items": {'items': ITEMS.assign(wit=[1, 2, np.nan, 3])},
  'non-finite features, such as [30]': {'items': ITEMS.assign(wit=[1, 2, np.inf, 3])},
  "columns ['wit'] of items must be numbers": {'items': ITEMS.assign(wit=list('abcd'))},
  'comparisons.csv has no rows': {'comparisons': JUDGED[:0]},
  'items.csv has no rows': {'items': ITEMS[:0]},
  'must hold either comparisons or ratings': {'ratings': JUDGED},
}


@pytest.mark.parametrize('message', BAD_TABLES)
def test_bad_tables_are_refused(tmp_path, message):
  write(tmp_path, **({'items': ITEMS, 'comparisons': JUDGED} | BAD_TABLES[message]))
  with pytest.raises(ValueError) as raised:
    comparisons.load_comparisons(str(tmp_path))
  assert message in str(raised.value)


BAD_OPTIONS = {
  'columns': (
    {'features': ['charm']},
    r"table items lacks the columns \['charm'\]; it has \['item_id', 'context'\]",
  ),
  'npy': ({'features': 'none.npy'}, r'cannot read features from .*none\.npy'),
  'not npy': ({'features': 'wit'}, r"features='wit' is no \.npy file"),
  'rows': ({'features': 'short.npy'}, r'must have shape \[4, D\].*\(3, 2\)'),
  'gap': ({'min_rating_gap': -1.0}, r'min_rating_gap must be >= 0, got -1'),
  'minimum': ({'min_comparisons': 0}, r'1 <= min_comparisons <= max_comparisons, got 0'),
  'raters': ({'complete_raters_only': True}, r'complete_raters_only needs a table of ratings'),
}


@pytest.mark.parametrize('name', BAD_OPTIONS)
def test_bad_options_are_refused(tmp_path, name):
  options, message = BAD_OPTIONS[name]
  np.save(tmp_path / 'short.npy', np.ones((3, 2)))
  path = write(tmp_path, items=ITEMS, comparisons=JUDGED)
  with pytest.raises(ValueError, match=message):
    comparisons.load_comparisons(path, **options)


@pytest.mark.parametrize('path', ['', '/nowhere/at/all'])
def test_a_missing_folder_is_refused(path):
  with pytest.raises(ValueError, match=r'is no folder; give one that holds items'):
    comparisons.load_comparisons(path)


@pytest.mark.parametrize('name', ['items.csv', 'items.parquet'])
def test_an_unreadable_file_is_named(tmp_path, name):
  (tmp_path / name).write_bytes(b'')
  with pytest.raises(ValueError, match=f'cannot read .*{name}'):
    comparisons.load_comparisons(str(tmp_path))


def test_a_table_twice_or_not_at_all_is_refused(tmp_path):
  with pytest.raises(ValueError, match=r'items.parquet or items.csv; found neither'):
    comparisons.load_comparisons(str(tmp_path))
  write(tmp_path, items=ITEMS)
  write(tmp_path, items=ITEMS, suffix='.parquet')
  with pytest.raises(ValueError, match='found both'):
    comparisons.load_comparisons(str(tmp_path))


@pytest.mark.skipif(not os.environ.get('METAPERS_UKPCONVARG'), reason='METAPERS_UKPCONVARG unset')
def test_all_of_ukpconvarg_is_read():
  histories = comparisons.load_comparisons(
    os.environ['METAPERS_UKPCONVARG'], min_comparisons=1, max_comparisons=10_000
  )
  assert len(histories.user_ids) == 3801
  assert histories.mask.sum() == 65_340
  assert histories.features.shape == (1052, 1052)
  assert np.unique(histories.context).size == 32
  assert np.median(histories.mask.sum(1)) == 4
