"""Questions of a study of in-context learning to a model, and answers that outlive a kill."""

import functools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from metapers.bench.language import in_context as studies
from metapers.bench.language.in_context import ZERO, Row, Sizes, Study, Texts
from metapers.core.types import Params
from metapers.io import journal as journals
from metapers.llm import in_context, likelihood
from metapers.llm.chat_tokens import ChatTokens
from metapers.llm.in_context import Example
from metapers.llm.likelihood import Asked, Score


class Cell(NamedTuple):
  """One question: a row, or what it is called, for a query of a user."""

  row: Row | str
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

  log_probs: list[float]
  num_tokens: list[int]
  prompt_tokens: int
  num_dropped: int


def questions(
  study: Study, rows: Sequence[Row], texts: Texts, chat: ChatTokens, sizes: Sizes, *, most: int
) -> Iterator[Question]:
  """Yields every cell's question.

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
  shown = list(shown_examples(study, rows, texts, sizes))
  for user, query in np.ndindex(study.queries.prompts.shape):
    row_of = study.test.rows[study.queries.prompts[user, query]]
    replies = [
      chat.response(texts.responses[row_of, each[user, query]])
      for each in (study.queries.preferred, study.queries.other)
    ]
    for row, examples in zip(rows, shown):
      message = in_context.fitted(
        row.arm,
        examples(user, query),
        texts.prompts[row_of],
        lambda text: len(chat.prompt(text)),
        most=most,
      )
      asked = Asked(chat.prompt(message.text), replies)
      yield Question(Cell(row, user, query), asked, message.num_dropped)


def shown_examples(
  study: Study, rows: Sequence[Row], texts: Texts, sizes: Sizes
) -> Iterator[Callable[[int, int], list[Example]]]:
  """Yields for each row what gives the examples that a query of a user is shown.

  Raises:
    ValueError: for examples from slates without features.
  """
  for row in rows:
    if row == ZERO:
      yield lambda user, query: []
      continue
    asked, known = (studies.embeddings(each) for each in (study.test, study.train))
    yield functools.partial(
      studies.examples_for, study, studies.pools_of(study, row.source, sizes), asked, known,
      k=row.shots, texts=texts,
    )  # fmt: skip


class Journal:
  """Answers by cell, in a `journal.Journal`.

  Args:
    path: of the file.
    identity: of the study and the model; a file of another one is refused.

  Raises:
    ValueError: as there.
  """

  def __init__(self, path: str | os.PathLike, identity: Mapping[str, Any]):
    self._kept = journals.Journal(path, identity, {'cell': str, **Answer.__annotations__})
    self.answers = {one.pop('cell'): Answer(**one) for one in self._kept.records}

  def add(self, cell: Cell, answer: Answer) -> None:
    """Keeps an answer."""
    self._kept.add({'cell': cell.key, **answer._asdict()})
    self.answers[cell.key] = answer

  def close(self) -> None:
    """Closes the file."""
    self._kept.close()


def ask(
  asked: Iterable[Question],
  score: Score,
  params: Params,
  journal: Journal,
  ended: Callable[[], object] = lambda: None,
) -> None:
  """Asks for every answer that the journal lacks, questions of like lengths together.

  Args:
    asked: all questions.
    score: of `likelihood.scorer`.
    params: of the model.
    journal: what is there already, and where answers go.
    ended: is called after each answer.
  """
  missing = [one for one in asked if one.cell.key not in journal.answers]
  for index in likelihood.in_order_of_length([one.asked for one in missing]):
    one = missing[index]
    found = score(params, one.asked)
    values = found.log_probs.tolist(), found.num_tokens.tolist()
    journal.add(one.cell, Answer(*values, len(one.asked.prompt), one.num_dropped))
    ended()
