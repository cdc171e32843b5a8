"""Files of rows: ids are the text that stands there, and positions are the rows' own."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from metapers.data import comparisons, frames, people_tables

NAMES = ['007', '7', '07', '1e3', '1000', '100e1', 'NA', 'None', 'null', 'nan', '1.0', '1', 'True']
LONG = [18446744073709551615, 9007199254740993, 9007199254740992]


def written(path, rows):
  """Writes rows as the format of the path's suffix says it, by other code than the product's."""
  if path.suffix == '.csv':
    lines = [','.join(rows[0])] + [','.join(str(v) for v in row.values()) for row in rows]
    path.write_text('\n'.join(lines) + '\n')
  elif path.suffix == '.jsonl':
    path.write_text('\n'.join(map(json.dumps, rows)) + '\n')
  else:
    pq.write_table(pa.Table.from_pylist(rows), path)
  return path


@pytest.mark.parametrize('suffix', ['.csv', '.jsonl', '.parquet'])
@pytest.mark.parametrize('names', [NAMES, list(map(str, LONG))])
def test_an_id_is_the_text_that_stands_there(tmp_path, suffix, names):
  path = written(tmp_path / f'a{suffix}', [{'user_id': name, 'x': 1} for name in names])
  assert frames.ids(frames.read_frame(path), 'user_id').tolist() == names


@pytest.mark.parametrize('suffix', ['.jsonl', '.parquet'])
def test_integers_are_matched_by_their_text_even_beside_gaps(tmp_path, suffix):
  rows = [{'user_id': value} for value in (9007199254740993, None, 7)]
  frame = frames.read_frame(written(tmp_path / f'a{suffix}', rows))
  assert frames.ids(frame, 'user_id').tolist() == ['9007199254740993', None, '7']
  assert frames.id_of(7.0) == frames.id_of(np.int64(7)) == '7'


def test_one_odd_id_at_the_end_of_a_long_table_changes_no_other(tmp_path):
  names = [str(1000 + row % 2000) for row in range(300_000)]
  names[-1] = 'guest'
  path = tmp_path / 'a.csv'
  path.write_text('user_id\n' + '\n'.join(names) + '\n')
  assert frames.ids(frames.read_frame(path), 'user_id').tolist() == names


@pytest.mark.parametrize('value', [[1], {'a': 1}, b'a', np.zeros(2)])
def test_what_is_no_id_is_refused_with_its_row(value):
  frame = pd.DataFrame({'user_id': pd.Series(['a', value], dtype=object)})
  with pytest.raises(ValueError, match="row 1 of 'user_id': an id must be text or a number"):
    frames.ids(frame, 'user_id')


ITEMS = pd.DataFrame({'item_id': list('abc'), 'x': [3.0, 1.0, 2.0]})
ROWS = [{'user_id': 'u', 'chosen': 'a', 'rejected': 'b'}] * 2


def test_a_shuffled_frame_is_read_in_the_order_of_its_rows(tmp_path):
  shuffled = ITEMS.iloc[[2, 0, 1]]
  shuffled.to_parquet(tmp_path / 'pandas.parquet')
  shuffled.set_index('item_id').to_parquet(tmp_path / 'indexed.parquet')
  for name in ('pandas', 'indexed'):
    frame = frames.read_frame(tmp_path / f'{name}.parquet')
    assert frame.index.tolist() == [0, 1, 2]
    assert sorted(frame.columns) == ['item_id', 'x']
    assert frame['item_id'].tolist() == ['c', 'a', 'b']


def test_the_index_of_a_table_is_no_feature(tmp_path):
  ITEMS.to_csv(tmp_path / 'items.csv')
  written(tmp_path / 'comparisons.csv', ROWS)
  with pytest.raises(ValueError, match=r'Unnamed: 0.*no feature'):
    comparisons.load_comparisons(str(tmp_path))
  named = comparisons.load_comparisons(str(tmp_path), features=('x',))
  np.testing.assert_array_equal(named.features, [[3], [1], [2]])


@pytest.mark.parametrize('name', ['__index_level_0__', 'index', 'level_0'])
def test_an_index_that_others_stored_as_a_column_is_no_feature(tmp_path, name):
  table = pa.table({'item_id': list('abc'), name: [2, 0, 1]})
  pq.write_table(table, tmp_path / 'items.parquet')
  with pytest.raises(ValueError, match=name):
    people_tables.read_features(None, people_tables.read_items(tmp_path), tmp_path)


@pytest.mark.parametrize(
  ('order', 'expected'),
  [
    (['10', '9', '100'], [1, 0, 2]),
    (['1e1', '9.5', '-2'], [2, 1, 0]),
    (['9007199254740993', '9007199254740992', '0'], [2, 1, 0]),
    (['9007199254740993', '9007199254740992.0', '0.5'], [2, 1, 0]),
    (['2026-01-02T00:00:00+05:00', '2026-01-01T20:00:00Z'], [0, 1]),
    (['2026-11-27', '2026-02-01T10:00:00', '2025-12-31'], [2, 1, 0]),
  ],
)
def test_an_order_sorts_as_what_it_holds(order, expected):
  assert people_tables.own_order(pd.DataFrame({'order': order})).tolist() == expected


@pytest.mark.parametrize(
  ('order', 'odd'),
  [
    (['1', 'two'], 'two'),
    (['27.11.2026', '28.11.2026'], '27.11.2026'),
    (['first', 'last'], 'first'),
    (['2026-11-27', '2026-11-28', 'NaT'], 'NaT'),
    (['1', 'nan'], 'nan'),
    (['1', 'inf'], 'inf'),
  ],
)
def test_an_order_of_words_is_refused(order, odd):
  with pytest.raises(ValueError, match=rf'order must be numbers or ISO dates.*\b{odd}\b'):
    people_tables.own_order(pd.DataFrame({'order': order}))


@pytest.mark.parametrize('other', ['2026-01-01T20:00:00', '2026-01-01'])
def test_dates_with_and_without_an_offset_are_refused(other):
  order = ['2026-01-02T00:00:00+05:00', other]
  with pytest.raises(ValueError, match=rf'with an offset from UTC \({order[0][:10]}.*{other}'):
    people_tables.own_order(pd.DataFrame({'order': order}))


def test_timestamps_of_a_parquet_file_are_an_order(tmp_path):
  rows = [{**row, 'order': pd.Timestamp(f'2026-01-0{3 - n}')} for n, row in enumerate(ROWS)]
  written(tmp_path / 'comparisons.parquet', rows)
  _, preferences = people_tables.read_preferences(tmp_path)
  assert people_tables.own_order(preferences).tolist() == [1, 0]


def test_numbers_are_read_however_a_file_writes_them():
  frame = pd.DataFrame({'a': ['1', '2.5'], 'b': [True, False], 'c': ['True', 'false']})
  np.testing.assert_array_equal(
    frames.numbers(frame, ['a', 'b', 'c'], 'items'), [[1, 1, 1], [2.5, 0, 0]]
  )
  with pytest.raises(ValueError, match=r"columns \['d'\] of items must be numbers"):
    frames.numbers(pd.DataFrame({'d': ['1', 'one']}), ['d'], 'items')


@pytest.mark.parametrize(
  ('name', 'content', 'message'),
  [
    ('a.jsonl', '{"prompt": "x", "responses": ["y", "\\ud83d"]}', 'line 1 .*no unicode'),
    ('a.jsonl', '{"a": 1}\n{"a": {"b": ["\\udc00"]}}', 'line 2 .*no unicode'),
    ('a.jsonl', '[1, 2]', 'line 1 must hold a JSON object'),
    ('a.csv', 'a,b\n1,2\n3,4,5\n', 'cannot be read'),
    ('a.csv', 'a,b\n1,2,3\n4,5,6\n', 'more cells than the header'),
    ('a.csv', 'a,a\n1,2\n', "columns stand twice: 'a'"),
  ],
)
def test_a_damaged_file_is_refused_with_the_place(tmp_path, name, content, message):
  (tmp_path / name).write_text(content)
  with pytest.raises(ValueError, match=message):
    frames.read_frame(tmp_path / name)
