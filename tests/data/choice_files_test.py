"""Files of choices as people have them become people's tables, and what is left out is numbered."""

import json

import numpy as np
import pandas as pd
import pytest

from metapers.data import choice_files, comparisons, frames, people_tables
from metapers.data.choice_files import Columns

TEXTS = ['short', 'a "quoted", one', 'two\nlines', 'two\r\nlines', '🙂 é', 'NA', 'x,y;z\ttab']
COLUMNS = ['user', 'prompt', 'response_a', 'response_b', 'choice']


def rows_of(write=lambda first, second, is_second: 'ab'[is_second]):
  rng = np.random.default_rng(0)
  rows = []
  for user in ('007', '7', 'NA'):
    for number in range(8):
      first, second = rng.choice(TEXTS, 2, replace=False)
      is_second = bool(rng.integers(2))
      prompt = f'{user}-{number} "why"?\nSay 🙂'
      rows.append((user, prompt, first, second, write(first, second, is_second)))
  return pd.DataFrame(rows, columns=COLUMNS, dtype=object)


def chosen_texts(made):
  text = made.tables.items['text']
  table = made.tables.comparisons
  return list(zip(text[table['chosen']], text[table['rejected']]))


@pytest.fixture
def csv_of(tmp_path):
  def write(frame, name='votes.csv', **options):
    frame.to_csv(tmp_path / name, index=False, **options)
    return tmp_path / name

  return write


@pytest.fixture
def expected(csv_of):
  return chosen_texts(choice_files.read_choices(csv_of(rows_of())))


@pytest.mark.parametrize(
  'write',
  [
    lambda first, second, is_second: 'AB'[is_second],
    lambda first, second, is_second: 1 + is_second,
    lambda first, second, is_second: float(1 + is_second),
    lambda first, second, is_second: int(is_second),
    lambda first, second, is_second: ('response_a', 'response_b')[is_second],
    lambda first, second, is_second: ('Model_A', 'model_b')[is_second],
    lambda first, second, is_second: (first, second)[is_second] + ' ',
  ],
  ids=['A/B', '1/2', '1.0/2.0', '0/1', 'names of columns', 'models', 'text'],
)
@pytest.mark.parametrize('kind', ['csv', 'jsonl', 'parquet'])
def test_choices_are_read_as_they_are_usually_written(tmp_path, expected, write, kind):
  frame, path = rows_of(write), tmp_path / f'votes.{kind}'
  if kind == 'csv':
    frame.to_csv(path, index=False)
  elif kind == 'jsonl':
    frame.to_json(path, orient='records', lines=True)
  else:
    frame.to_parquet(path)
  assert chosen_texts(choice_files.read_choices(path)) == expected


def test_chosen_and_rejected_texts_are_read(csv_of, expected):
  frame = rows_of()
  is_first = frame['choice'] == 'a'
  frame['chosen'] = frame['response_a'].where(is_first, frame['response_b'])
  frame['rejected'] = frame['response_b'].where(is_first, frame['response_a'])
  path = csv_of(frame.drop(columns=['response_a', 'response_b', 'choice']))
  made = choice_files.read_choices(path)
  assert chosen_texts(made) == expected
  named = Columns(user='user', chosen='chosen', rejected='rejected')
  assert choice_files.read_choices(csv_of(frame), named).columns.a == ''


def test_other_names_and_values_are_given(csv_of, expected):
  path = csv_of(rows_of(lambda first, second, is_second: ('L', 'R')[is_second]).set_axis(
    ['who', 'asked', 'x', 'y', 'verdict'], axis=1
  ))  # fmt: skip
  names = Columns(user='who', prompt='asked', a='x', b='y', choice='verdict')
  made = choice_files.read_choices(path, names, values=('l', 'r'))
  assert chosen_texts(made) == expected
  other = choice_files.read_choices(path, names, values=('r', 'l'))
  assert chosen_texts(other) == [pair[::-1] for pair in expected]


def test_texts_and_ids_survive(tmp_path, csv_of):
  path = csv_of(rows_of(), lineterminator='\r\n', encoding='utf-8-sig')
  made = choice_files.read_choices(path)
  choice_files.write_choices(tmp_path / 'mine', made)
  items = people_tables.read_items(tmp_path / 'mine')
  kind, table = people_tables.read_preferences(tmp_path / 'mine')
  assert kind == 'comparisons' and set(table['user_id']) == {'007', '7', 'NA'}
  assert set(items['text']) == set(TEXTS)
  assert items['context'].iloc[0] == '007-0 "why"?\nSay 🙂'
  read = frames.read_frame(path)  # pairs stand as they stood
  text = items.set_index('item_id')['text']
  first = read['response_a'].where(read['choice'] == 'a', read['response_b'])
  assert text[table['chosen']].tolist() == first.tolist()
  assert len(comparisons.load_comparisons(str(tmp_path / 'mine')).user_ids) == 3


def test_what_is_left_out_is_numbered(tmp_path, csv_of):
  frame = rows_of()
  frame.loc[1, 'choice'] = ''
  frame.loc[2, 'user'] = None
  frame.loc[3, 'response_b'] = frame.loc[3, 'response_a'] + ' '
  frame.loc[4, 'response_a'] = ' '
  again = frame.loc[[0, 0]].copy()
  again.loc[:, ['response_a', 'response_b', 'choice']] = [
    [frame.loc[0, 'response_b'], frame.loc[0, 'response_a'], 'ba'[frame.loc[0, 'choice'] == 'b']],
    frame.loc[0, ['response_a', 'response_b', 'choice']].tolist(),
  ]
  alone = frame.loc[[5]].assign(user='alone')
  made = choice_files.read_choices(csv_of(pd.concat([frame, again, alone])))
  assert made.rows == {
    'no user': [3], 'no choice': [2], 'no text': [5], 'the same text twice': [4],
    'repeated': [25, 26],
  }  # fmt: skip
  assert made.few == [27]
  said = choice_files.describe(made)
  assert '21 comparisons of 27 rows, by 4 people' in said and '\n' not in said
  assert 'repeated 2 (rows 25, 26)' in said and 'fewer than two choices: row 27' in said
  choice_files.write_choices(tmp_path / 'mine', made)
  assert json.loads((tmp_path / 'mine/source.json').read_text())['rows_left_out'] == made.rows


def test_what_is_said_at_another_time_is_said_again(csv_of):
  frame = pd.concat([rows_of(), rows_of().iloc[:1]]).reset_index(drop=True)
  frame['timestamp'] = [f'2026-11-{1 + day:02d}' for day in range(len(frame))]
  made = choice_files.read_choices(csv_of(frame))
  assert len(made.tables.comparisons) == 25 and made.columns.order == 'timestamp'
  by_row = choice_files.read_choices(csv_of(frame), Columns(order='none'))
  assert by_row.rows == {'repeated': [25]}
  frame.loc[3, 'timestamp'] = None
  with pytest.raises(ValueError, match=r"'timestamp' is empty in row 4: .*--order=none"):
    choice_files.read_choices(csv_of(frame))


def test_ties_are_kept_as_outcomes(tmp_path, csv_of):
  frame = rows_of()
  frame.loc[[0, 9], 'choice'] = ['Tie', 'tie (bothbad)']
  made = choice_files.read_choices(csv_of(frame))
  assert made.tables.comparisons['outcome'].value_counts().to_dict() == {
    'chosen': 22, 'tie': 1, 'both_bad': 1,
  }  # fmt: skip
  choice_files.write_choices(tmp_path / 'mine', made)
  folder = str(tmp_path / 'mine')
  assert comparisons.load_comparisons(folder).mask.sum() == 22
  assert comparisons.load_comparisons(folder, ties='outcomes').mask.sum() == 24


def test_without_prompts_all_texts_may_be_compared(csv_of):
  frame = rows_of().drop(columns='prompt')
  made = choice_files.read_choices(csv_of(frame))
  assert list(made.tables.items) == ['item_id', 'text'] and len(made.tables.items) <= len(TEXTS)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (lambda frame: frame.assign(choice='1'), r"every choice is 1, which may be .*--values"),
    (
      lambda frame: frame.assign(choice=['x', *frame['choice'][1:]]),
      r"'choice' of 1 rows is neither .*'x' in row 1 of user 007: .*--values=X,Y",
    ),
    (lambda frame: frame.assign(choice=''), r'holds no choice; left out: no choice 24 \(rows 1, 2'),
    (lambda frame: frame.drop(columns='user'), r'no column of user among .*--user=WHO'),
    (lambda frame: frame.drop(columns='choice'), r'no column of either a, b and choice, or chosen'),
    (lambda frame: frame.assign(order='soon'), r'order must be numbers or ISO dates'),
    (
      lambda frame: frame.assign(response_b='User: ' + frame['response_b'], choice='b'),
      r'tags of roles differ in 24 of 24 pairs',
    ),
  ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused(csv_of, change, message):
  with pytest.raises(ValueError, match=message):
    choice_files.read_choices(csv_of(change(rows_of())))


def test_a_value_that_is_no_text_is_named_by_row(tmp_path):
  frame = rows_of()
  frame.loc[1, 'response_a'] = 7
  frame.to_json(tmp_path / 'votes.jsonl', orient='records', lines=True)
  with pytest.raises(
    ValueError, match=r"row 2 of 'response_a': expected text or messages, got int"
  ):
    choice_files.read_choices(tmp_path / 'votes.jsonl')


def test_columns_that_are_not_there_are_refused(csv_of):
  with pytest.raises(ValueError, match='no column who; the file has user, prompt'):
    choice_files.read_choices(csv_of(rows_of()), Columns(user='who'))
  with pytest.raises(ValueError, match='column choice is read as two things'):
    choice_files.read_choices(csv_of(rows_of()), Columns(prompt='choice'))
