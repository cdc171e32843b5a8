"""A file of choices as people have it, a row each with its texts, as a folder of people's tables.

A row says who was asked (`user`), what (`prompt`), two texts, and which of them was preferred:
either `a`, `b` and a `choice` between them, or `chosen` and `rejected`. Texts are cleaned as those
of published data are (`rendering.clean`); the same text to the same prompt is one item.
"""

import csv
import pathlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from metapers.core import files
from metapers.core.types import Int
from metapers.data import frames, people_tables, rendering
from metapers.data.collector import PeopleTables

NONE = 'none'  # in place of a column: there is none, or it is not to be read
# The usual names of columns, in any case; of several that a file has, the first is read.
USUAL = {
  'user': (
    'user', 'user_id', 'userid', 'annotator', 'annotator_id', 'rater', 'rater_id', 'worker_id',
    'participant', 'participant_id', 'person', 'judge',
  ),
  'prompt': ('prompt', 'question', 'instruction', 'query', 'context', 'input'),
  'a': ('response_a', 'answer_a', 'completion_a', 'output_a', 'text_a', 'option_a', 'response_1',
        'answer_1', 'completion_1', 'output_1', 'text_1', 'option_1', 'a'),
  'b': ('response_b', 'answer_b', 'completion_b', 'output_b', 'text_b', 'option_b', 'response_2',
        'answer_2', 'completion_2', 'output_2', 'text_2', 'option_2', 'b'),
  'choice': ('choice', 'preference', 'preferred', 'winner', 'chosen', 'label', 'answer'),
  'chosen': ('chosen', 'chosen_response', 'preferred_response'),
  'rejected': ('rejected', 'rejected_response'),
  'order': ('order', *people_tables.TIMES),
}  # fmt: skip
OPTIONAL = ('prompt', 'order')
BETWEEN, PAIRED = ('a', 'b', 'choice'), ('chosen', 'rejected')
# How choices are written, in any case: for the first text and for the second.
FORMS = (
  ('a', 'b'), ('1', '2'), ('0', '1'), ('first', 'second'), ('left', 'right'),
  ('response_a', 'response_b'), ('response_1', 'response_2'), ('model_a', 'model_b'),
)  # fmt: skip
TIES = ('tie', 'tied', 'same', 'equal', 'draw', 'both', 'neither', 'no preference')
BOTH_BAD = ('both_bad', 'both bad', 'bothbad', 'tie (bothbad)')
NOTHING = ('', 'nan', 'na', 'n/a', 'null', 'none')
FIRST, SECOND, TIE, BAD, NO_CHOICE = range(5)
OUTCOMES = ('chosen', 'chosen', 'tie', 'both_bad', '')
MOST_ROWS = 8  # named in a message


class Columns(NamedTuple):
  """Names of a file's columns; '' for one to be found by its usual names, NONE for none."""

  user: str = ''
  prompt: str = ''
  a: str = ''
  b: str = ''
  choice: str = ''
  chosen: str = ''
  rejected: str = ''
  order: str = ''


class Choices(NamedTuple):
  """What a file of choices holds.

  tables: items and comparisons; `left_out` counts rows by reason. rows: the same reasons, and which
  rows they are, the first being 1. columns: that were read. meaning: how choices are written.
  unread: other columns. num_rows: of the file. few: rows of people with fewer than two choices.
  """

  tables: PeopleTables
  rows: dict[str, list[int]]
  columns: Columns
  meaning: str
  unread: list[str]
  num_rows: int
  few: list[int]


def read_choices(
  path: str | pathlib.Path,
  columns: Columns | None = None,
  *,
  values: Sequence[str] = (),
  ties: Sequence[str] = (),
  licence: str = '',
) -> Choices:
  """Returns the choices of a csv, jsonl or parquet file.

  Args:
    path: of the file.
    columns: their names, where they are other than the usual ones.
    values: the two of `choice` that stand for the first and the second text, where they are others
      than FORMS or the text itself.
    ties: those that say that neither is preferred, besides TIES and BOTH_BAD.
    licence: of the data, a line.

  Raises:
    ValueError: for a file that cannot be read, a column that is missing, a choice that is neither
      text, no choice at all, or a form of texts that reveals the choice.
  """
  path = pathlib.Path(path)
  frame = frames.read_frame(path)
  found = find_columns(frame, columns or Columns())
  rows, meaning = read_rows(frame, found, values, ties)
  kept, left_out = sort_out(rows)
  if kept.empty:
    raise ValueError(f'{path} holds no choice; left out: {in_words(left_out)}')
  items, comparisons = tables_of(kept, found)
  is_choice = kept['answer'].isin((FIRST, SECOND)).to_numpy()
  rendering.check_cues(items, comparisons[is_choice])
  counts = {reason: len(numbers) for reason, numbers in left_out.items()}
  choices = kept['user'].map(kept['user'][is_choice].value_counts()).fillna(0)
  return Choices(
    tables=PeopleTables(items, comparisons, path.name, licence, counts),
    rows=left_out,
    columns=found,
    meaning=meaning,
    unread=[str(name) for name in frame if name not in found],
    num_rows=len(frame),
    few=kept.index[choices < 2].tolist(),
  )


def find_columns(frame: pd.DataFrame, given: Columns) -> Columns:
  """Returns the columns to read: those named, and the usual ones of a table.

  Raises:
    ValueError: for a name that is not there, or a table without people or pairs of texts.
  """
  there = [str(name) for name in frame]
  absent = [name for name in given if name not in ('', NONE, *there)]
  if absent:
    raise ValueError(f'no column {", ".join(absent)}; the file has {", ".join(there)}')
  by_lower = {name.lower(): name for name in reversed(there)}
  usual = {
    kind: next((by_lower[name] for name in names if name in by_lower), '')
    for kind, names in USUAL.items()
  }
  found = {kind: getattr(given, kind) or usual[kind] for kind in Columns._fields}
  found = {kind: '' if name == NONE else name for kind, name in found.items()}
  named = [kind for kind in PAIRED if getattr(given, kind) not in ('', NONE)]
  forms = (PAIRED, BETWEEN) if named else (BETWEEN, PAIRED)
  form = next((form for form in forms if all(found[kind] for kind in form)), None)
  if form is None or not found['user']:
    what = 'user' if form else 'either a, b and choice, or chosen and rejected'
    raise ValueError(
      f'no column of {what} among {", ".join(there)}; name them, such as --user=WHO --a=FIRST '
      '--b=SECOND --choice=WHICH, or --chosen=TEXT --rejected=TEXT'
    )
  read = {kind: found[kind] for kind in ('user', *form, *OPTIONAL)}
  twice = sorted({name for name in read.values() if name and [*read.values()].count(name) > 1})
  if twice:
    raise ValueError(f'column {", ".join(twice)} is read as two things: {_written(read)}')
  return Columns(**read)


def read_rows(
  frame: pd.DataFrame, columns: Columns, values: Sequence[str], ties: Sequence[str]
) -> tuple[pd.DataFrame, str]:
  """Returns user, prompt, first, second, answer and order of each row, and how it is written.

  `user` and `order` are None where there is none, texts ''; rows are numbered from 1.
  """
  numbers = range(1, len(frame) + 1)
  first, second = (columns.chosen or columns.a), (columns.rejected or columns.b)
  read: dict[str, Any] = {
    'user': _column(frame, columns.user, frames.id_of),
    'prompt': _column(frame, columns.prompt, _text) if columns.prompt else '',
    'first': _column(frame, first, _text),
    'second': _column(frame, second, _text),
    'order': _column(frame, columns.order, frames.id_of) if columns.order else list(numbers),
  }
  rows = pd.DataFrame(read, index=numbers, dtype=object)
  if not columns.choice:
    return rows.assign(answer=FIRST), f'{first} over {second}'
  written = _column(frame, columns.choice, lambda value: '' if _is_none(value) else _word(value))
  answer, meaning = read_answers(rows.assign(written=written), columns, values, ties)
  return rows.assign(answer=answer), meaning


def read_answers(
  rows: pd.DataFrame, columns: Columns, values: Sequence[str], ties: Sequence[str]
) -> tuple[Int[np.ndarray, 'N'], str]:
  """Returns what was chosen in each row, and in words how it is written.

  Raises:
    ValueError: for choices that may be read in two ways, or in none.
  """
  if len(values) not in (0, 2):
    raise ValueError(f'--values are two, of the first text and of the second; got {list(values)}')
  lower = rows['written'].str.lower().str.strip()
  known = dict.fromkeys(NOTHING, NO_CHOICE) | dict.fromkeys(TIES, TIE)
  known |= dict.fromkeys(BOTH_BAD, BAD) | {one.lower(): TIE for one in ties}
  forms = [*FORMS, (columns.a.lower(), columns.b.lower())]
  if values:
    forms = [(values[0].lower(), values[1].lower())]
  known = {word: code for word, code in known.items() if not values or word not in forms[0]}
  used = set(lower) - set(known)
  readings = {tuple(sorted((word, form.index(word)) for word in used)): form for form in forms
              if used <= set(form)}  # fmt: skip
  if len(readings) > 1:
    raise ValueError(
      f'every choice is {", ".join(used)}, which may be the first text or the second: say by '
      '--values=X,Y'
    )
  for form in readings.values():
    codes = known | dict(zip(form, (FIRST, SECOND)))
    one, other = values or form
    return lower.map(codes).to_numpy(int), f'{one} is {columns.a}, {other} is {columns.b}'
  cleaned = rows['written'].map(rendering.clean)
  is_first, is_second = cleaned == rows['first'], cleaned == rows['second']
  answer = np.select([is_first, is_second], [FIRST, SECOND], lower.map(known).fillna(-1))
  refuse_unknown(rows[answer == -1], columns)
  return answer.astype(int), 'the text of the preferred one'


def refuse_unknown(rows: pd.DataFrame, columns: Columns) -> None:
  """Refuses choices that are neither text.

  Raises:
    ValueError: naming a row, its person and what stands there.
  """
  if rows.empty:
    return
  usual = {word for form in FORMS for word in form}
  odd = rows[~rows['written'].str.lower().isin(usual)]
  rows = rows if odd.empty else odd
  row = rows.iloc[0]
  raise ValueError(
    f'{columns.choice!r} of {len(rows)} rows is neither of the two texts nor how choices are '
    f'usually written, such as {row["written"]!r:.60} in row {rows.index[0]} of user '
    f'{row["user"]}: say what stands for the first and the second by --values=X,Y, and for neither '
    'by --ties=Z; or leave out those rows'
  )


def sort_out(rows: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, list[int]]]:
  """Returns the rows that say something, and the others' numbers by reason."""
  is_first = rows['answer'] != SECOND
  rows = rows.assign(
    chosen=rows['first'].where(is_first, rows['second']),
    rejected=rows['second'].where(is_first, rows['first']),
  )
  pair = rows[['first', 'second']]
  is_tie = rows['answer'].isin((TIE, BAD))
  key = rows[['user', 'prompt', 'answer', 'chosen', 'rejected']].copy()
  key['answer'] = rows['answer'].where(rows['answer'] != SECOND, FIRST)
  key.loc[is_tie, 'chosen'], key.loc[is_tie, 'rejected'] = pair.min(axis=1), pair.max(axis=1)
  if not (rows['order'] == rows.index).all():  # said at another time it is said again
    key['order'] = rows['order']
  left_out: dict[str, list[int]] = {}
  tests = {
    'no user': rows['user'].isna(),
    'no choice': rows['answer'] == NO_CHOICE,
    'no text': (pair == '').any(axis=1)
    | ((rows['prompt'] == '') & bool((rows['prompt'] != '').any())),
    'the same text twice': rows['first'] == rows['second'],
  }
  kept = pd.Series(True, rows.index)
  for reason, wrong in tests.items():
    left_out[reason] = rows.index[kept & wrong].tolist()
    kept &= ~wrong
  again = key[kept].duplicated().reindex(rows.index, fill_value=False)
  left_out['repeated'] = rows.index[again].tolist()
  return rows[kept & ~again], {reason: numbers for reason, numbers in left_out.items() if numbers}


def tables_of(rows: pd.DataFrame, columns: Columns) -> tuple[pd.DataFrame, pd.DataFrame]:
  """Returns items and comparisons.

  Raises:
    ValueError: for an order that is missing, or neither numbers nor dates.
  """
  shown = pd.DataFrame(
    {
      'context': np.repeat(rows['prompt'].to_numpy(), 2),
      'text': rows[['first', 'second']].to_numpy().ravel(),
    }
  )
  number = shown.groupby(['context', 'text'], sort=False).ngroup()
  items = shown.assign(item_id=number).drop_duplicates('item_id')
  names = ['item_id', 'context', 'text'] if columns.prompt else ['item_id', 'text']
  pairs = number.to_numpy().reshape(-1, 2)
  is_second = rows['answer'].to_numpy(int) == SECOND
  comparisons = pd.DataFrame(
    {
      'user_id': rows['user'].to_numpy(),
      'chosen': np.where(is_second, pairs[:, 1], pairs[:, 0]),
      'rejected': np.where(is_second, pairs[:, 0], pairs[:, 1]),
      'order': rows['order'].to_numpy(),
    }
  )
  named = np.array(OUTCOMES, object)[rows['answer'].to_numpy(int)]
  if (named != OUTCOMES[FIRST]).any():
    comparisons['outcome'] = named
  missing = rows.index[rows['order'].isna()].tolist()
  if missing:
    raise ValueError(
      f'{columns.order!r} is empty in {numbered(missing)}: fill it, or --order={NONE} takes the '
      'order of the rows'
    )
  people_tables.own_order(comparisons)
  return items[names].reset_index(drop=True), comparisons


def write_choices(folder: pathlib.Path, made: Choices) -> None:
  """Writes items.csv, comparisons.csv and source.json to a folder that is not there yet."""
  tables = made.tables
  about = {
    'source': tables.source, 'licence': tables.licence, 'left_out': tables.left_out,
    'rows_left_out': made.rows, 'columns': made.columns._asdict(), 'choices': made.meaning,
  }  # fmt: skip
  with files.writing_folder(folder) as place:
    for name, table in (('items', tables.items), ('comparisons', tables.comparisons)):
      content = table.to_csv(index=False, quoting=csv.QUOTE_NONNUMERIC, lineterminator='\n')
      (place / f'{name}.csv').write_bytes(content.encode())
    files.write_json(place / people_tables.SOURCE, about)


def describe(made: Choices) -> str:
  """Returns a line on what was read, and what was left out, by the numbers of rows."""
  items, comparisons = made.tables.items, made.tables.comparisons
  outcome = comparisons.get('outcome', pd.Series('chosen', comparisons.index))
  num_ties = int((outcome != OUTCOMES[FIRST]).sum())
  prompts = f' to {items["context"].nunique()} prompts' if 'context' in items else ', no prompts'
  parts = [
    f'{made.tables.source}: {len(comparisons)} comparisons of {made.num_rows} rows, by '
    f'{comparisons["user_id"].nunique()} people, of {len(items)} texts{prompts}',
    f'read as {_written(made.columns._asdict())}; {made.meaning}',
    f'in the order of {made.columns.order or "the rows"}',
    f'left out: {in_words(made.rows)}',
  ]
  if num_ties:
    parts.insert(1, f'{num_ties} of them ties')
  if made.few:
    parts.append(
      f'fewer than two choices: {numbered(made.few)}, whose people are left out where the folder '
      'is read'
    )
  return '; '.join(parts)


def in_words(left_out: Mapping[str, Sequence[int]]) -> str:
  """Returns how many rows were left out, why and which."""
  parts = [f'{reason} {len(rows)} ({numbered(rows)})' for reason, rows in left_out.items()]
  return ', '.join(parts) or 'nothing'


def numbered(rows: Sequence[int]) -> str:
  """Returns the numbers of rows in words, the first ones of many."""
  shown = ', '.join(map(str, rows[:MOST_ROWS]))
  more = f' and {len(rows) - MOST_ROWS} more' if len(rows) > MOST_ROWS else ''
  return f'row{"s" if len(rows) > 1 else ""} {shown}{more}'


def _written(columns: Mapping[str, str]) -> str:
  return ', '.join(f'{kind}={name}' for kind, name in columns.items() if name)


def _column(frame: pd.DataFrame, name: str, read: Callable[[Any], Any]) -> list[Any]:
  """Returns the values of a column, as they are read.

  Raises:
    ValueError: naming the row of what cannot be.
  """
  made = []
  for number, value in enumerate(_values(frame, name), 1):
    try:
      made.append(read(value))
    except ValueError as error:
      raise ValueError(
        f'row {number} of {name!r}: {error}; convert or leave out that row'
      ) from error
  return made


def _values(frame: pd.DataFrame, name: str) -> Iterable[Any]:
  return frame[name].to_numpy(object)


def _text(value: Any) -> str:
  return rendering.clean(rendering.read_text(value))


def _is_none(value: Any) -> bool:
  return pd.api.types.is_scalar(value) and bool(pd.isna(value))


def _word(value: Any) -> str:
  """Returns what stands as a choice; pandas writes 1 as 1.0 where a column has gaps."""
  is_word = isinstance(value, str | int | float | np.integer | np.floating)
  word = str(frames.id_of(value)) if is_word else rendering.read_text(value)
  return re.sub(r'^(\d+)\.0$', r'\1', word.strip())
