"""Predictions as tables that any framework can write, and back.

A table of choices has a row for each real candidate of each real query comparison, of each user and
number of shots, and says how probable it is that the user prefers the candidate; a table of picks
says what each response of a slate is worth to the user, of which only the order counts. Both are
parquet, distinguished by their columns.
"""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pyarrow

from metapers.core import files
from metapers.core.task import Task, Truth
from metapers.core.types import Bool, Float, Int
from metapers.evaluation.predictions import Predictions

CHOICES = ('condition', 'user', 'shots', 'query', 'candidate')
PICKS = ('condition', 'user', 'shots', 'slate', 'response')
PROBABILITY, LOG_PROBABILITY, SCORE = 'probability', 'log_probability', 'score'
OF_PICKS = ('top1', 'pick_reward', 'regret', 'win_rate', 'win_rate_oracle')  # metrics of picks
TOLERANCE = 1e-4  # of the sum of the probabilities of one comparison


class Targets(NamedTuple):
  """What must be predicted of one condition.

  shots: [L]. candidates: [T, N, K], True for each candidate that needs a probability.
  responses: [T, M, R], True for each that may be given a score.
  """

  shots: tuple[int, ...]
  candidates: Bool[np.ndarray, 'T N K']
  responses: Bool[np.ndarray, 'T M R']


class Submission(NamedTuple):
  """The tables of a method: `choices`, and `picks` or None."""

  choices: pd.DataFrame
  picks: pd.DataFrame | None


def targets_of(tasks: Task, truth: Truth | None, shots: Sequence[int]) -> Targets:
  """Returns what must be predicted of the episodes of a condition."""
  query = tasks.query
  candidates = np.asarray(query.candidates.mask & query.mask[..., None])
  nothing = np.zeros((len(candidates), 0, 0), bool)
  responses = nothing if truth is None else np.asarray(truth.slate.mask)
  return Targets(tuple(shots), candidates, responses)


def submission_of(made: Mapping[str, Predictions], targets: Mapping[str, Targets]) -> Submission:
  """Returns predictions as tables, from which `predictions_of` gets the same bits back.

  Args:
    made: condition -> its predictions.
    targets: condition -> what must be predicted.
  """
  choices, picks = [], []
  for name, predictions in made.items():
    wanted = targets[name]
    log_p, scores = map(np.asarray, predictions)
    at = {'condition': name, 'shots': wanted.shots}
    choices.append(_rows(CHOICES, LOG_PROBABILITY, log_p, wanted.candidates, **at))
    picks.append(_rows(PICKS, SCORE, scores, wanted.responses, **at))
  scored = pd.concat(picks, ignore_index=True)
  return Submission(pd.concat(choices, ignore_index=True), scored if len(scored) else None)


def write_submission(
  folder: str | os.PathLike, made: Mapping[str, Predictions], targets: Mapping[str, Targets]
) -> list[pathlib.Path]:
  """Writes `choices.parquet` and, where there are slates, `picks.parquet`; returns their paths.

  Args:
    folder: made if missing.
    made: condition -> its predictions.
    targets: condition -> what must be predicted.
  """
  tables = submission_of(made, targets)._asdict()
  return [
    files.write_atomically(pathlib.Path(folder) / f'{name}.parquet', table.to_parquet(index=False))
    for name, table in tables.items()
    if table is not None
  ]


def read_submission(paths: Sequence[str | os.PathLike]) -> Submission:
  """Returns the tables of any number of parquet files; those of one kind are joined.

  Raises:
    ValueError: for a file that is missing or no parquet, or whose columns are of neither table, or
      of two.
  """
  found: dict[str, list[pd.DataFrame]] = {'choices': [], 'picks': []}
  for path in paths:
    try:
      table = pd.read_parquet(files.regular(path))
    except (OSError, ValueError, pyarrow.ArrowException) as error:
      raise ValueError(f'{path} cannot be read as parquet: {error}') from error
    found[kind_of(table, str(path))].append(table)
  if not found['choices']:
    raise ValueError(f'no table with columns {", ".join(CHOICES)}, {PROBABILITY} was given')
  if len({LOG_PROBABILITY in table for table in found['choices']}) > 1:
    raise ValueError(f'give {PROBABILITY} in all tables of choices, or {LOG_PROBABILITY} in all')
  picks = pd.concat(found['picks'], ignore_index=True) if found['picks'] else None
  return Submission(pd.concat(found['choices'], ignore_index=True), picks)


def kind_of(table: pd.DataFrame, source: str) -> str:
  """Returns 'choices' or 'picks', by the columns of a table.

  Raises:
    ValueError: for other columns, or columns of other types.
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


def predictions_of(
  submission: Submission, targets: Mapping[str, Targets]
) -> dict[str, Predictions]:
  """Returns the predictions of tables in which nothing is missing, twice or impossible.

  Without a table of picks all scores are 0: leave out the metrics in OF_PICKS.

  Args:
    submission: the tables.
    targets: condition -> what must be predicted.

  Raises:
    ValueError: naming the first condition, user, shots and comparison that is wrong.
  """
  choices = _by_condition(submission.choices, targets)
  picks = {} if submission.picks is None else _by_condition(submission.picks, targets)
  made = {}
  for name, wanted in targets.items():
    log_p = _log_probs(name, choices[name], wanted)
    scores = np.zeros((len(wanted.shots), *wanted.responses.shape), np.float32)
    if submission.picks is not None and wanted.responses.any():
      scores = _dense(name, picks[name], wanted.responses, wanted.shots, value=SCORE)
    made[name] = Predictions(jnp.asarray(log_p, jnp.float32), jnp.asarray(scores, jnp.float32))
  return made


def _rows(
  columns: Sequence[str],
  value: str,
  values: np.ndarray,
  mask: Bool[np.ndarray, 'T N K'],
  *,
  condition: str,
  shots: Sequence[int],
) -> pd.DataFrame:
  """Returns the real entries of an array [L, T, N, K] as rows."""
  row, *index = np.nonzero(np.broadcast_to(mask, values.shape))
  places = (np.asarray(shots, np.int64)[row], *index)
  located = dict(zip(('shots', 'user', *columns[3:]), places, strict=True))
  filled = {'condition': condition, **located, value: values[row, *index]}
  return pd.DataFrame(filled, columns=[*columns, value])


def _by_condition(table: pd.DataFrame, targets: Mapping[str, Targets]) -> dict[str, pd.DataFrame]:
  codes, names = pd.factorize(table['condition'], use_na_sentinel=False)
  unknown = [name for name in names if name not in targets]
  if unknown:
    raise ValueError(f'unknown condition {unknown[0]!r}; known: {", ".join(targets)}')
  missing = [name for name in targets if name not in names]
  if missing:
    raise ValueError(f'condition {missing[0]!r} has no rows; give all of {", ".join(targets)}')
  return {name: table.loc[codes == code] for code, name in enumerate(names)}


def _log_probs(
  condition: str, table: pd.DataFrame, wanted: Targets
) -> Float[np.ndarray, 'L T N K']:
  mask = np.broadcast_to(wanted.candidates, (len(wanted.shots), *wanted.candidates.shape))
  column = PROBABILITY if PROBABILITY in table else LOG_PROBABILITY
  found = _dense(condition, table, wanted.candidates, wanted.shots, value=column)
  p = found if column == PROBABILITY else np.exp(found)
  total = np.where(mask, p, 0).sum(-1)
  at = _first(mask.any(-1) & ~(np.abs(total - 1) <= TOLERANCE))
  if at:
    place = _place(condition, CHOICES, wanted.shots, at)
    raise ValueError(f'{place}: probabilities sum to {total[at]:.6g}, not 1')
  at = _first(mask & (p <= 0)) if column == PROBABILITY else ()
  if at:
    place = _place(condition, CHOICES, wanted.shots, at)
    raise ValueError(
      f'{place}: probability {p[at]:g}; it must be above 0, for what is impossible costs '
      'infinitely many nats when it happens'
    )
  log_p = found if column == LOG_PROBABILITY else np.log(np.where(mask, p, 1))
  return np.where(mask, log_p, np.finfo(np.float32).min).astype(np.float32)


def _dense(
  condition: str,
  table: pd.DataFrame,
  mask: Bool[np.ndarray, 'T N K'],
  shots: Sequence[int],
  *,
  value: str,
) -> Float[np.ndarray, 'L T N K']:
  """Returns the rows of a table as an array, if there is one row for each real entry."""
  columns = PICKS if value == SCORE else CHOICES
  shape = (len(shots), *mask.shape)
  flat = _positions(condition, table, mask, shots, columns)
  counts = np.bincount(flat, minlength=mask.size * len(shots)).reshape(shape)
  wrong = {
    'has no row': (counts == 0) & mask,
    'has several rows': counts > 1,
    'has a row, but is masked: leave it out': (counts > 0) & ~mask,
  }
  values = np.zeros(counts.size)
  values[flat] = table[value].to_numpy(np.float64, na_value=np.nan)
  wrong[f'{value} is not finite'] = ~np.isfinite(values.reshape(shape))
  for what, there in wrong.items():
    at = _first(there)
    if at:
      raise ValueError(f'{_place(condition, columns, shots, at)} {what}')
  return values.reshape(shape)


def _positions(
  condition: str,
  table: pd.DataFrame,
  mask: Bool[np.ndarray, 'T N K'],
  shots: Sequence[int],
  columns: Sequence[str],
) -> Int[np.ndarray, 'O']:
  """Returns where in the flat [L, T, N, K] each row belongs."""
  known = {
    'shots': np.asarray(shots),
    **{name: np.arange(size) for name, size in zip((columns[1], *columns[3:]), mask.shape)},
  }
  places = []
  for name, values in known.items():
    given = table[name].to_numpy(np.int64)
    order = np.argsort(values, kind='stable')
    place = order[np.minimum(np.searchsorted(values[order], given), len(values) - 1)]
    wrong = np.flatnonzero(values[place] != given)
    if wrong.size:
      first = table.iloc[wrong[0]]
      row = ', '.join(f'{key} {first[key]}' for key in columns[1:])
      expected = ', '.join(map(str, shots)) if name == 'shots' else f'0..{len(values) - 1}'
      raise ValueError(f'condition {condition!r}, {row}: {name} must be among {expected}')
    places.append(place)
  return np.asarray(np.ravel_multi_index(tuple(places), (len(shots), *mask.shape)))


def _first(there: np.ndarray) -> tuple[int, ...]:
  """Returns the index of the first True; () where there is none."""
  return tuple(np.argwhere(there)[0].tolist()) if there.any() else ()


def _place(condition: str, columns: Sequence[str], shots: Sequence[int], at: Sequence[int]) -> str:
  """Returns a place in [L, T, N] or [L, T, N, K] in words."""
  row, user, *rest = at
  numbers = (user, shots[row], *rest)
  return f'condition {condition!r}, ' + ', '.join(
    f'{name} {number}' for name, number in zip(columns[1:], numbers)
  )
