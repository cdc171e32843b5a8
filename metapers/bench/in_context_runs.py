"""Questions of a study of in-context learning to a model, and answers that outlive a kill."""

import json
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from metapers.bench import in_context as studies
from metapers.bench.in_context import ZERO, Row, Sizes, Study
from metapers.core.types import Params
from metapers.llm import in_context, policy
from metapers.llm.chat_tokens import ChatTokens
from metapers.llm.policy import Asked, Likelihood, Score


class Cell(NamedTuple):
  """One question: a row for a query of a user."""

  row: Row
  user: int
  query: int

  @property
  def key(self) -> str:
    """What it is kept by."""
    return f'{self.row}|{self.user}|{self.query}'


class Question(NamedTuple):
  """A cell as tokens. num_dropped: examples that did not fit."""

  cell: Cell
  asked: Asked
  num_dropped: int


class Answer(NamedTuple):
  """What is kept of a cell: of the preferred reply and of the other one."""

  log_probs: tuple[float, float]
  num_tokens: tuple[int, int]
  prompt_tokens: int
  num_dropped: int


class Texts(NamedTuple):
  """Texts of the store: [P] prompts and [P, R] responses."""

  prompts: Any  # an array of objects; strings to who reads one
  responses: Any


def questions(
  study: Study, rows: Sequence[Row], texts: Texts, chat: ChatTokens, sizes: Sizes, *, most: int
) -> Iterator[Question]:
  """Yields every cell's question; a user's pool is found once for each source.

  Args:
    study: users and queries.
    rows: what is shown.
    texts: of the store.
    chat: the model's template.
    sizes: of the study.
    most: tokens of a prompt.

  Raises:
    ValueError: for a question that alone is longer, or a lookup without features.
  """
  needs_lookup = any(row != ZERO for row in rows)
  prompts = {
    name: studies.embeddings(slates) if needs_lookup else np.zeros((len(slates.mask), 1))
    for name, slates in (('train', study.train), ('test', study.test))
  }
  for user in range(len(study.weights)):
    pools = {
      source: studies.pool_of(study, source, user, sizes)
      for source in dict.fromkeys(row.source for row in rows if row != ZERO)
    }
    for query, prompt in enumerate(study.queries.prompts[user].tolist()):
      row_of = study.test.rows[prompt]
      replies = [
        texts.responses[row_of, each[user, query]]
        for each in (study.queries.preferred, study.queries.other)
      ]
      for row in rows:
        examples = []
        if row != ZERO:
          near = studies.nearest_last(
            pools[row.source], prompts['test'][prompt], prompts['train'], row.shots
          )
          examples = studies.examples_of(near, study.train.rows, *texts)
        shown = in_context.fitted(
          row.arm, examples, texts.prompts[row_of], lambda text: len(chat.prompt(text)), most=most
        )
        asked = Asked(chat.prompt(shown.text), [chat.response(reply) for reply in replies])
        yield Question(Cell(row, user, query), asked, shown.num_dropped)


class Journal:
  """Answers by cell, in a file that outlives a kill: a line each, written as soon as it is there.

  Args:
    path: of the file.
    identity: of the study and the model; a file of another one is refused.

  Raises:
    ValueError: for a file of another study, naming what differs.
  """

  def __init__(self, path: str | os.PathLike, identity: Mapping[str, Any]):
    self._path = pathlib.Path(path)
    self.answers: dict[str, Answer] = {}
    first = json.dumps(dict(identity), sort_keys=True)
    content = self._path.read_bytes() if self._path.exists() else b''
    whole = content[: content.rfind(b'\n') + 1]
    lines = whole.decode().splitlines()
    if lines and lines[0] != first:
      raise ValueError(
        f'{path} holds answers of another study: {lines[0]}, this one is {first}; choose another '
        'workdir'
      )
    for line in lines[1:]:
      record = json.loads(line)
      self.answers[record.pop('cell')] = Answer(
        tuple(record['log_probs']), tuple(record['num_tokens']),
        record['prompt_tokens'], record['num_dropped'],
      )  # fmt: skip
    self._path.parent.mkdir(parents=True, exist_ok=True)
    self._file = self._path.open('r+b' if content else 'w+b')
    self._file.truncate(len(whole))  # half a line of a run that was killed
    self._file.seek(0, os.SEEK_END)
    if not lines:
      self._write(first)

  def add(self, cell: Cell, answer: Answer) -> None:
    """Keeps an answer."""
    self.answers[cell.key] = answer
    self._write(json.dumps({'cell': cell.key, **answer._asdict()}))

  def close(self) -> None:
    """Closes the file."""
    self._file.close()

  def _write(self, line: str) -> None:
    self._file.write(line.encode() + b'\n')
    self._file.flush()


def ask(
  found: Iterable[Question],
  score: Score,
  params: Params,
  journal: Journal,
  ended: Callable[[], object] = lambda: None,
) -> None:
  """Asks for every answer that the journal lacks, questions of like lengths together.

  Args:
    found: all questions.
    score: of `policy.scorer`.
    params: of the model.
    journal: what is there already, and where answers go.
    ended: is called after each answer.
  """
  missing = [one for one in found if one.cell.key not in journal.answers]
  for index in policy.in_order_of_length([one.asked for one in missing]):
    one = missing[index]
    likelihood: Likelihood = score(params, one.asked)
    (first, second), (length, other) = likelihood.log_probs.tolist(), likelihood.num_tokens.tolist()
    prompt_tokens = len(one.asked.prompt)
    journal.add(one.cell, Answer((first, second), (length, other), prompt_tokens, one.num_dropped))
    ended()
