"""The tables of a study: a folder of people that every command trains on, and all that was kept.

`comparisons.csv` holds choices and, of two texts, ties and "both bad", as `data.people_tables`
reads them; `answers.csv` holds every answer with all that is known of its question.
"""

import csv
import datetime
import io
import json
import pathlib
import shutil
import zipfile
from collections.abc import Iterator

from metapers.collect.store import OUTCOMES, Question, Store
from metapers.collect.study import ITEMS
from metapers.core import files

COMPARISONS = ('user_id', 'chosen', 'rejected', 'order', 'outcome', 'strength')
ANSWERS = (
  'user_id', 'order', 'kind', 'rule', 'pool', 'items', 'shown', 'propensity', 'offered',
  'predicted', 'seed', 'answer', 'chosen', 'position', 'strength', 'time', 'seconds',
)  # fmt: skip


def write_tables(kept: Store, source: pathlib.Path, folder: str | pathlib.Path) -> pathlib.Path:
  """Writes the tables into a folder, which is the old one or the new one at every moment.

  A choice of one of K > 2 becomes K - 1 comparisons of it with each of the others: a consistent
  approximation of the choice among all, that overstates how much is known. Where K > 2 a tie or
  "both bad" is in no comparison: it does not say of which two. Answers that were undone are in no
  table.

  Args:
    kept: file of the study.
    source: its folder.
    folder: where to; made, or replaced.

  Reference:
    Azari Soufiani et al. 2013, Generalized Method-of-Moments for Rank Aggregation (position-1
    breaking).
  """
  folder = pathlib.Path(folder)
  if folder.exists() and not (folder / 'answers.csv').is_file():
    raise ValueError(f'{folder} exists and is no export of a study; give another folder')
  with files.writing_folder(folder) as place:
    for path in (source / ITEMS).iterdir():
      shutil.copyfile(path, place / path.name)
    for name, content in _tables(kept).items():
      (place / name).write_text(content, encoding='utf-8')
  return folder


def zipped(kept: Store, source: pathlib.Path) -> bytes:
  """Returns the files of `write_tables` as one zip."""
  buffer = io.BytesIO()
  with zipfile.ZipFile(buffer, 'w', zipfile.ZIP_DEFLATED) as archive:
    for path in sorted((source / ITEMS).iterdir()):
      archive.write(path, path.name)
    for name, content in _tables(kept).items():
      archive.writestr(name, content)
  return buffer.getvalue()


def _tables(kept: Store) -> dict[str, str]:
  histories = kept.histories()
  answered = [
    (f'p{user}', question)
    for user, history in histories.items()
    for question in history
    if question.answer is not None
  ]
  pairs = [row for user, question in answered for row in _pairs(user, question)]
  return {
    'comparisons.csv': _written(COMPARISONS, pairs),
    'answers.csv': _written(ANSWERS, [_row(user, question) for user, question in answered]),
  }


def _pairs(user: str, question: Question) -> Iterator[tuple]:
  answer = question.answer
  if answer is None or question.kind == 'attention':
    return
  if answer.choice is None:
    outcome = OUTCOMES.get(answer.answer)
    if outcome and len(question.shown) == 2:
      first, second = (question.items[place] for place in question.shown)
      yield user, first, second, question.position, outcome, None
    return
  for place in question.shown:
    if place != answer.choice:
      pair = question.items[answer.choice], question.items[place]
      yield user, *pair, question.position, OUTCOMES[answer.answer], answer.strength


def _row(user: str, question: Question) -> tuple:
  answer = question.answer
  assert answer is not None
  chosen = None if answer.choice is None else question.items[answer.choice]
  position = None if answer.choice is None else question.shown.index(answer.choice)
  time = datetime.datetime.fromtimestamp(answer.time, datetime.UTC)
  return (
    user, question.position, question.kind, question.rule, question.pool,
    json.dumps(question.items), json.dumps(question.shown), question.propensity,
    json.dumps(question.offered), question.predicted and json.dumps(question.predicted),
    question.seed, answer.answer, chosen, position, answer.strength,
    time.isoformat(timespec='milliseconds'), answer.duration,
  )  # fmt: skip


def _written(columns: tuple[str, ...], rows: list[tuple]) -> str:
  buffer = io.StringIO()
  writer = csv.writer(buffer, lineterminator='\n')
  writer.writerows([columns, *rows])
  return buffer.getvalue()
