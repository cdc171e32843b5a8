"""Responses of many models to many prompts, kept in a journal as they come, and as one table."""

import collections
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from metapers.core import fields, files
from metapers.io import chat
from metapers.io import journal as journals

KEPT = ('prompt', 'prompt_id', 'subset', 'split')  # columns of the prompts that the table has, too
# A model that failed so often and never answered will not: better a message than a long wait.
FAILURES_BEFORE_ANY_ANSWER = 20


class Wanted(NamedTuple):
  """One answer: a row of the prompts, and a model."""

  row: int
  model: str


KINDS = {'row': fields.Size, 'model': str, 'answer': chat.Completion}  # of a line


class Journal:
  """Answers as they came, in a `journal.Journal`.

  Args:
    path: of the file.
    shared: what all requests have in common.

  Raises:
    ValueError: as there.
  """

  def __init__(self, path: str | os.PathLike, shared: Mapping[str, Any]):
    self._kept = journals.Journal(path, shared, KINDS)
    self.answers = {
      Wanted(one['row'], one['model']): chat.Completion(**one['answer'])
      for one in self._kept.records
    }

  def add(self, wanted: Wanted, answer: chat.Completion) -> None:
    """Keeps an answer."""
    self._kept.add({**wanted._asdict(), 'answer': answer._asdict()})
    self.answers[wanted] = answer

  def close(self) -> None:
    """Closes the file."""
    self._kept.close()


def digest(prompts: pd.DataFrame) -> str:
  """Returns the sha256 of ids and prompts: rows of a journal mean those of the same file."""
  content = json.dumps([[str(x) for x in prompts['prompt_id']], prompts['prompt'].tolist()])
  return files.sha256(content.encode())


def collect(
  client: chat.Client,
  prompts: Sequence[str],
  models: Sequence[str],
  journal: Journal,
  *,
  parameters: Mapping[str, Any],
  concurrency: int = 8,
  ended: Callable[[int], object] = lambda count: None,
) -> dict[Wanted, str]:
  """Asks for every answer that the journal lacks, and returns why some are still missing.

  Args:
    client: of the endpoint.
    prompts: one message of a user each.
    models: as the endpoint names them.
    journal: keeps the answers.
    parameters: of every request.
    concurrency: how many requests are under way at once.
    ended: called with how many answers have come or failed, of all that are wanted.

  Raises:
    OSError: for a model that fails again and again and has never answered; as `chat.Client`.
    ValueError: as `chat.Client`.
  """
  wanted = [Wanted(row, model) for row in range(len(prompts)) for model in models]
  missing = [each for each in wanted if each not in journal.answers]
  requests = (
    chat.Request(model, [{'role': 'user', 'content': prompts[row]}], parameters)
    for row, model in missing
  )
  answered, failures = {each.model for each in journal.answers}, {}
  results = chat.complete_all(client, requests, concurrency=concurrency)
  for count, (number, result) in enumerate(results, len(wanted) - len(missing) + 1):
    each = missing[number]
    if isinstance(result, chat.Completion):
      journal.add(each, result)
      answered.add(each.model)
    else:
      failures[each] = str(result)
      _give_up(each.model, answered, failures)
    ended(count)
  return failures


def wide_table(
  prompts: pd.DataFrame,
  models: Sequence[str],
  answers: Mapping[Wanted, chat.Completion],
  failures: Mapping[Wanted, str],
) -> pd.DataFrame:
  """Returns a row per prompt; the response of a failed request is '', its finish reason why."""
  columns: dict[str, Any] = {name: prompts[name] for name in KEPT if name in prompts.columns}
  for number, model in enumerate(models, start=1):
    wanted = [Wanted(row, model) for row in range(len(prompts))]
    found = [
      answers.get(each) or chat.Completion('', f'failed: {failures.get(each)}', '', {})
      for each in wanted
    ]
    columns[f'response_{number}'] = [answer.text for answer in found]
    columns[f'response_{number}_model'] = [model] * len(prompts)
    columns[f'response_{number}_served_model'] = [answer.model for answer in found]
    columns[f'response_{number}_finish_reason'] = [answer.finish_reason for answer in found]
  return pd.DataFrame(columns)


def summary(
  models: Sequence[str],
  answers: Mapping[Wanted, chat.Completion],
  failures: Mapping[Wanted, str],
  num_prompts: int,
) -> list[str]:
  """Returns a line for each model, how many answered and how, and its last failure in another."""
  lines = []
  for model in models:
    own = [answer for wanted, answer in answers.items() if wanted.model == model]
    reasons = collections.Counter(answer.finish_reason or 'unknown' for answer in own)
    ends = ', '.join(f'{count} {reason}' for reason, count in sorted(reasons.items()))
    empty = sum(not answer.text.strip() for answer in own)
    failed = _of(model, failures)
    lines += [
      f'{model}: {len(own)} of {num_prompts} answers ({ends}); {empty} empty, {len(failed)} failed'
    ]
    if failed:
      lines += [f'  the same command asks for them again; the last failure: {failed[-1]}']
  return lines


def _give_up(model: str, answered: Iterable[str], failures: Mapping[Wanted, str]) -> None:
  failed = _of(model, failures)
  if model not in answered and len(failed) >= FAILURES_BEFORE_ANY_ANSWER:
    raise OSError(
      f'{model} failed {len(failed)} times and answered never; the last time: {failed[-1]}'
    )


def _of(model: str, failures: Mapping[Wanted, str]) -> list[str]:
  return [reason for wanted, reason in failures.items() if wanted.model == model]
