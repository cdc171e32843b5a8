"""Predictions as tables that any framework can write, and back.

A table of choices has a row for each real candidate of each real query comparison, of each user and
number of shots, and says how probable it is that the user prefers the candidate; a table of picks
says what each response of a slate is worth to the user, of which only the order counts. Both are
parquet, told apart by their columns.
"""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow

from metapers.core import files
from metapers.core.task import Task, Truth
from metapers.core.types import Bool
from metapers.evaluation.predictions import Predictions

CHOICES = ('condition', 'user', 'shots', 'query', 'candidate')
PICKS = ('condition', 'user', 'shots', 'slate', 'response')
PROBABILITY, LOG_PROBABILITY, SCORE = 'probability', 'log_probability', 'score'
OF_PICKS = ('top1', 'pick_reward', 'regret', 'win_rate', 'win_rate_oracle')  # metrics of picks


class Asked(NamedTuple):
  """What must be predicted of one condition.

  shots: [L]. candidates: [T, N, K], True for each candidate that needs a probability.
  responses: [T, M, R], True for each that may be given a score.
  """

  shots: tuple[int, ...]
  candidates: Bool[np.ndarray, 'T N K']
  responses: Bool[np.ndarray, 'T M R']


class Tables(NamedTuple):
  """A submission: `choices`, and `picks` or None."""

  choices: pd.DataFrame
  picks: pd.DataFrame | None


def asked(tasks: Task, truth: Truth | None, shots: Sequence[int]) -> Asked:
  """Reads from the episodes of a condition what must be predicted."""
  query = tasks.query
  candidates = np.asarray(query.candidates.mask & query.mask[..., None])
  nothing = np.zeros((len(candidates), 0, 0), bool)
  return Asked(tuple(shots), candidates, nothing if truth is None else np.asarray(truth.slate.mask))


def tables_of(made: Mapping[str, Predictions], asked: Mapping[str, Asked]) -> Tables:
  """Turns predictions into tables; `submission_checks.predictions_of` gets the same bits back.

  Args:
    made: condition -> its predictions.
    asked: condition -> what was asked.
  """
  choices, picks = [], []
  for name, predictions in made.items():
    want = asked[name]
    log_p, scores = map(np.asarray, predictions)
    choices.append(_long(CHOICES, LOG_PROBABILITY, name, log_p, want.candidates, want.shots))
    picks.append(_long(PICKS, SCORE, name, scores, want.responses, want.shots))
  scored = pd.concat(picks, ignore_index=True)
  return Tables(pd.concat(choices, ignore_index=True), scored if len(scored) else None)


def write(
  folder: str | os.PathLike, made: Mapping[str, Predictions], asked: Mapping[str, Asked]
) -> list[pathlib.Path]:
  """Writes predictions as `choices.parquet` and, where there are slates, `picks.parquet`.

  Args:
    folder: made if missing.
    made: condition -> its predictions.
    asked: condition -> what was asked, see `asked`.

  Returns:
    The paths.
  """
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  written = []
  for name, table in tables_of(made, asked)._asdict().items():
    if table is not None:
      files.write_atomically(folder / f'{name}.parquet', table.to_parquet(index=False))
      written.append(folder / f'{name}.parquet')
  return written


def read(paths: Sequence[str | os.PathLike]) -> Tables:
  """Reads a submission from any number of parquet files; those of one kind are joined.

  Raises:
    ValueError: for a file that is no parquet, or whose columns are of neither table, or of two.
  """
  found: dict[str, list[pd.DataFrame]] = {'choices': [], 'picks': []}
  for path in paths:
    try:
      table = pd.read_parquet(path)
    except (OSError, ValueError, pyarrow.ArrowException) as error:
      raise ValueError(f'{path} cannot be read as parquet: {error}') from error
    found[kind_of(table, str(path))].append(table)
  if not found['choices']:
    raise ValueError(f'no table with columns {", ".join(CHOICES)}, {PROBABILITY} was given')
  if len({LOG_PROBABILITY in table for table in found['choices']}) > 1:
    raise ValueError(f'give {PROBABILITY} in all tables of choices, or {LOG_PROBABILITY} in all')
  picks = pd.concat(found['picks'], ignore_index=True) if found['picks'] else None
  return Tables(pd.concat(found['choices'], ignore_index=True), picks)


def kind_of(table: pd.DataFrame, source: str) -> str:
  """Tells a table of 'choices' from one of 'picks' by its columns.

  Raises:
    ValueError: for other columns, or whole numbers or numbers that are none.
  """
  kinds = {
    (*CHOICES, PROBABILITY): 'choices',
    (*CHOICES, LOG_PROBABILITY): 'choices',
    (*PICKS, SCORE): 'picks',
  }
  columns = next((names for names in kinds if set(names) == set(table.columns)), None)
  if columns is None:
    forms = '; or '.join(', '.join(names) for names in kinds)
    raise ValueError(f'{source} has columns {", ".join(map(str, table))}; expected {forms}')
  _, *numbers, value = columns
  for name in numbers:
    if not pd.api.types.is_integer_dtype(table[name]) or table[name].hasnans:
      raise ValueError(f'{source}: {name} must be whole numbers, got {table[name].dtype}')
  if not pd.api.types.is_float_dtype(table[value]):
    raise ValueError(f'{source}: {value} must be floating point, got {table[value].dtype}')
  return kinds[columns]


def _long(
  columns: Sequence[str],
  value: str,
  condition: str,
  values: np.ndarray,
  mask: Bool[np.ndarray, 'T N K'],
  shots: Sequence[int],
) -> pd.DataFrame:
  row, *index = np.nonzero(np.broadcast_to(mask, values.shape))
  places = (np.asarray(shots, np.int64)[row], *index)
  shown = dict(zip(('shots', 'user', *columns[3:]), places, strict=True))
  told = {'condition': condition, **shown, value: values[row, *index]}
  return pd.DataFrame(told, columns=[*columns, value])
