"""The file of a study: who takes part, what was asked and what was answered; SQLite."""

import contextlib
import hashlib
import json
import pathlib
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from absl import logging

SCHEMA = pathlib.Path(__file__).with_name('schema.sql')
VERSION = 1
BUSY_SECONDS = 1.0  # how long another process may hold the file
NOT_OPEN = 'this question is not open: it was answered already, or is of before an undo'
ANSWERS = ('choice', 'same', 'both_bad', 'skip')
OUTCOMES = {'choice': 'chosen', 'same': 'tie', 'both_bad': 'both_bad'}  # as data and models say it


class Answer(NamedTuple):
  """One answer.

  answer: of ANSWERS. choice: index into the items of the question; None unless answer is 'choice'.
  strength: 1 to 3, or None. key: the same answer sent again has the same. duration: seconds.
  """

  answer: str
  key: str
  choice: int | None = None
  strength: int | None = None
  duration: float | None = None
  id: int = 0
  time: float = 0.0


class Question(NamedTuple):
  """One question to one participant; see schema.sql for the fields."""

  position: int
  kind: str
  rule: str
  pool: int | None
  items: tuple[str, ...]
  shown: tuple[int, ...]
  propensity: float
  offered: tuple[int, ...]
  predicted: tuple[float, ...] | None
  seed: str
  id: int = 0
  answer: Answer | None = None


LISTS = ('items', 'shown', 'offered', 'predicted')
STORED = Question._fields[: Question._fields.index('id')]
ASKED = """
  SELECT q.*, a.id AS answer_id, a.answer, a.choice, a.strength, a.key, a.duration, a.time, a.undone
  FROM questions q LEFT JOIN answers a ON a.question = q.id"""


class Conflict(ValueError):
  """An answer to a question that is not open, or an undo of one that is not the last."""


def hashed(token: str) -> str:
  """Returns what is kept of a token: 32 random bytes need no salt."""
  return hashlib.sha256(token.encode()).hexdigest()


class Store:
  """A study's file. Every method is one transaction; threads may share one store.

  Args:
    path: of the file, made where there is none.

  Raises:
    ValueError: for a file that is no study, or one of another version.
  """

  def __init__(self, path: str | pathlib.Path):
    self._lock = threading.RLock()
    self._is_purged = False  # of what was deleted before a kill
    self._db = sqlite3.connect(
      path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    self._db.row_factory = sqlite3.Row
    try:
      self._prepare()
    except sqlite3.DatabaseError as error:
      self._db.close()
      if isinstance(error, sqlite3.OperationalError):
        raise
      raise ValueError(f'{path} is no study: {error}; give another folder') from error
    if self.about('version', VERSION) != VERSION:
      raise ValueError(f'{path} has version {self.about("version")}; this code reads {VERSION}')
    self.say('version', VERSION)

  def _prepare(self) -> None:
    # FULL: what was acknowledged outlives a power cut. secure_delete: what is deleted is gone.
    for pragma in ('journal_mode=WAL', 'synchronous=FULL', 'foreign_keys=ON', 'secure_delete=ON'):
      self._db.execute(f'PRAGMA {pragma}')
    self._db.executescript(SCHEMA.read_text(encoding='utf-8'))
    columns = {row['name'] for row in self._db.execute('PRAGMA table_info(requests)')}
    if 'digest' not in columns:  # a study of before there was one
      self._db.execute('ALTER TABLE requests ADD COLUMN digest TEXT')

  def close(self) -> None:
    """Closes the file."""
    with self._lock:
      self._purge_if_due()
      self._db.close()

  @contextlib.contextmanager
  def transaction(self) -> Iterator[sqlite3.Connection]:
    """Yields the connection in a transaction that others of this study wait for.

    Raises:
      sqlite3.OperationalError: for a disk that is full, or a file that another process holds.
    """
    with self._lock:
      if self._db.in_transaction:
        yield self._db
        return
      self._db.execute('BEGIN IMMEDIATE')
      try:
        yield self._db
        self._db.execute('COMMIT')
      except BaseException:
        if self._db.in_transaction:
          self._db.execute('ROLLBACK')
        raise
      self._purge_if_due()

  def purge(self) -> None:
    """Empties the log, which would keep what was deleted or replaced until it is written over.

    It cannot be emptied while another process reads the file: that is logged, and tried again after
    each later transaction and before the file is closed.
    """
    with self._lock:
      self._is_purged = False
      if not self._purge_if_due():
        logging.warning(
          'another process reads the study, so that its log still holds what was deleted; it is '
          'emptied after the next answer, or when the study is closed: let the other process end'
        )

  def _purge_if_due(self) -> bool:
    if not self._is_purged:
      self._db.execute('PRAGMA busy_timeout = 0')  # or all of this study would wait with it
      try:
        (found,) = self._db.execute('PRAGMA wal_checkpoint(TRUNCATE)').fetchall()
      finally:
        self._db.execute(f'PRAGMA busy_timeout = {1000 * BUSY_SECONDS:.0f}')
      self._is_purged = not found['busy']
    return self._is_purged

  def rows(self, query: str, values: Sequence[Any] = ()) -> list[sqlite3.Row]:
    """Returns what a query finds."""
    with self._lock:
      return self._db.execute(query, values).fetchall()

  def about(self, name: str, default: Any = None) -> Any:
    """Returns a fact about the study, a JSON value."""
    found = self.rows('SELECT value FROM about WHERE name = ?', (name,))
    return json.loads(found[0]['value']) if found else default

  def say(self, name: str, value: Any) -> None:
    """Keeps a fact about the study."""
    with self.transaction() as db:
      db.execute('INSERT OR REPLACE INTO about VALUES (?, ?)', (name, json.dumps(value)))

  def new_token(self) -> str:
    """Returns the token of a new administrator; the one before is worth nothing from now on."""
    token = secrets.token_urlsafe(32)
    self.say('admin', hashed(token))
    return token

  def is_admin(self, token: str) -> bool:
    """Returns whether a token is the administrator's."""
    return secrets.compare_digest(hashed(token), self.about('admin', ''))

  def enrol(self, most: int) -> str:
    """Returns the token of a new participant.

    Raises:
      Conflict: if there are as many as the study takes.
    """
    token = secrets.token_urlsafe(24)
    with self.transaction() as db:
      if db.execute('SELECT count(*) FROM participants').fetchone()[0] >= most:
        raise Conflict('the study has as many participants as it takes')
      db.execute(
        'INSERT INTO participants (token, created) VALUES (?, ?)', (hashed(token), time.time())
      )
    return token

  def participant(self, token: str) -> int | None:
    """Returns the number of the participant with a token."""
    found = self.rows('SELECT id FROM participants WHERE token = ?', (hashed(token),))
    return found[0]['id'] if found else None

  def participants(self) -> list[sqlite3.Row]:
    """Returns id and created of all participants."""
    return self.rows('SELECT id, created FROM participants ORDER BY id')

  def delete(self, participant: int) -> bool:
    """Deletes a participant with all questions and answers; returns whether there was one."""
    with self.transaction() as db:
      count = db.execute('DELETE FROM participants WHERE id = ?', (participant,)).rowcount
    self.purge()
    return count > 0

  def history(self, participant: int) -> list[Question]:
    """Returns the questions that stand, in order, with their answers."""
    return self.histories(participant).get(participant, [])

  def histories(self, participant: int | None = None) -> dict[int, list[Question]]:
    """Returns the questions that stand of every participant, or of one, in order."""
    which = '' if participant is None else 'AND q.participant = ?'
    query = f"""{ASKED} AND a.undone IS NULL
      WHERE q.withdrawn IS NULL {which} ORDER BY q.participant, q.position"""
    found: dict[int, list[Question]] = {}
    for row in self.rows(query, () if participant is None else (participant,)):
      found.setdefault(row['participant'], []).append(_question(row))
    return found

  def kept(self, participant: int) -> list[tuple[Question, float | None]]:
    """Returns every question asked of a participant, with its answer and when that was undone.

    A question stands there once for each of its answers, in their order, and once without any.
    """
    query = f'{ASKED} WHERE q.participant = ? ORDER BY a.id, q.id'
    return [(_question(row), row['undone']) for row in self.rows(query, (participant,))]

  def add(self, participant: int, questions: Sequence[Question], after: Sequence[Question]) -> bool:
    """Adds questions that were chosen after a history, unless another one stands by now.

    Returns:
      Whether they were added: a second tab may have been faster, or have undone an answer.
    """
    columns = ', '.join(STORED)
    marks = ', '.join('?' * (len(STORED) + 2))
    with self.transaction() as db:
      if self.history(participant) != list(after):
        return False
      db.executemany(
        f'INSERT INTO questions (participant, created, {columns}) VALUES ({marks})',
        [(participant, time.time(), *_values(question)) for question in questions],
      )
    return True

  def answer(self, participant: int, question: int, given: Answer) -> bool:
    """Keeps an answer to the open question; returns False where it is kept already.

    Raises:
      Conflict: for a question that is not the participant's first open one, or a key that came with
        another answer.
    """
    with self.transaction() as db:
      known = db.execute(
        'SELECT * FROM answers WHERE participant = ? AND key = ?', (participant, given.key)
      ).fetchone()
      if known:
        if (known['question'], known['answer'], known['choice']) != (
          question, given.answer, given.choice,
        ):  # fmt: skip
          raise Conflict('this form was sent before, with another answer')
        return False
      if _open(db, participant) != question:
        raise Conflict(NOT_OPEN)
      db.execute(
        'INSERT INTO answers (participant, question, key, answer, choice, strength, time, duration)'
        ' VALUES (?, ?, ?, ?, ?, ?, ?, ?)',
        (participant, question, given.key, given.answer, given.choice, given.strength,
         time.time(), given.duration),
      )  # fmt: skip
    return True

  def undo(self, participant: int, answer: int, batch_size: int) -> bool:
    """Takes the last answer back, and the questions of later batches, which followed from it.

    Returns:
      False where it was taken back already.

    Raises:
      Conflict: for an answer that is not the participant's last one.
    """
    with self.transaction() as db:
      row = db.execute(
        'SELECT a.undone, q.position FROM answers a JOIN questions q ON q.id = a.question '
        'WHERE a.id = ? AND a.participant = ?',
        (answer, participant),
      ).fetchone()
      if row and row['undone']:
        return False
      last = db.execute(
        'SELECT max(id) FROM answers WHERE participant = ? AND undone IS NULL', (participant,)
      ).fetchone()[0]
      if row is None or last != answer:
        raise Conflict('only the last answer can be undone')
      db.execute('UPDATE answers SET undone = ? WHERE id = ?', (time.time(), answer))
      db.execute(
        'UPDATE questions SET withdrawn = ? WHERE participant = ? AND position >= ? AND withdrawn '
        'IS NULL',
        (time.time(), participant, (row['position'] // batch_size + 1) * batch_size),
      )
    return True


def _open(db: sqlite3.Connection, participant: int) -> int | None:
  row = db.execute(
    'SELECT id FROM questions WHERE participant = ? AND withdrawn IS NULL AND NOT EXISTS '
    '(SELECT 1 FROM answers WHERE question = questions.id AND undone IS NULL) '
    'ORDER BY position LIMIT 1',
    (participant,),
  ).fetchone()
  return row['id'] if row else None


def _values(question: Question) -> list[Any]:
  return [
    json.dumps(value) if name in LISTS and value is not None else value
    for name, value in zip(STORED, question)
  ]


def _question(row: sqlite3.Row) -> Question:
  kept: dict[str, Any] = {
    name: tuple(json.loads(row[name])) if name in LISTS and row[name] is not None else row[name]
    for name in STORED
  }
  answer = None
  if row['answer_id']:
    values = {name: row[name] for name in Answer._fields if name != 'id'}
    answer = Answer(id=row['answer_id'], **values)
  return Question(**kept, id=row['id'], answer=answer)
