"""Checks of predictions that others made: nothing missing, nothing twice, nothing improbable."""

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np
import pandas as pd

from metapers.bench.submissions import (
  CHOICES,
  LOG_PROBABILITY,
  PICKS,
  PROBABILITY,
  SCORE,
  Asked,
  Tables,
)
from metapers.core.types import Bool, Float, Int
from metapers.evaluation.predictions import Predictions

TOLERANCE = 1e-4  # of the sum of the probabilities of one comparison


def predictions_of(tables: Tables, asked: Mapping[str, Asked]) -> dict[str, Predictions]:
  """Turns tables into predictions, and believes nothing that is missing, twice or improbable.

  Without a table of picks all scores are 0: leave out the metrics in OF_PICKS.

  Args:
    tables: of a submission.
    asked: condition -> what was asked.

  Raises:
    ValueError: naming the first condition, user, shots and comparison that is wrong.
  """
  choices = _by_condition(tables.choices, asked)
  picks = {} if tables.picks is None else _by_condition(tables.picks, asked)
  made = {}
  for name, want in asked.items():
    log_p = _log_probs(name, choices[name], want)
    scores = np.zeros((len(want.shots), *want.responses.shape), np.float32)
    if tables.picks is not None and want.responses.any():
      scores = _dense(name, picks[name], want.responses, want.shots, value=SCORE)
    made[name] = Predictions(jnp.asarray(log_p), jnp.asarray(scores))
  return made


def _by_condition(table: pd.DataFrame, asked: Mapping[str, Asked]) -> dict[str, pd.DataFrame]:
  codes, names = pd.factorize(table['condition'], use_na_sentinel=False)
  unknown = [name for name in names if name not in asked]
  if unknown:
    raise ValueError(f'unknown condition {unknown[0]!r}; known: {", ".join(asked)}')
  missing = [name for name in asked if name not in names]
  if missing:
    raise ValueError(f'condition {missing[0]!r} has no rows; give all of {", ".join(asked)}')
  return {name: table.loc[codes == code] for code, name in enumerate(names)}


def _log_probs(condition: str, table: pd.DataFrame, want: Asked) -> Float[np.ndarray, 'L T N K']:
  mask = np.broadcast_to(want.candidates, (len(want.shots), *want.candidates.shape))
  column = PROBABILITY if PROBABILITY in table else LOG_PROBABILITY
  found = _dense(condition, table, want.candidates, want.shots, value=column)
  p = found if column == PROBABILITY else np.exp(found)
  total = np.where(mask, p, 0).sum(-1)
  off = mask.any(-1) & ~(np.abs(total - 1) <= TOLERANCE)
  if off.any():
    at = tuple(np.argwhere(off)[0].tolist())
    raise ValueError(
      f'{_place(condition, CHOICES, want.shots, at)}: probabilities sum to {total[at]:.6g}, not 1'
    )
  if column == LOG_PROBABILITY:
    log_p = found
  else:
    never = mask & (p <= 0)
    if never.any():
      at = tuple(np.argwhere(never)[0].tolist())
      raise ValueError(
        f'{_place(condition, CHOICES, want.shots, at)}: probability {p[at]:g}; it must be above 0, '
        'for what is impossible costs infinitely many nats when it happens'
      )
    log_p = np.log(np.where(mask, p, 1))
  return np.where(mask, log_p, np.finfo(np.float32).min).astype(np.float32)


def _dense(
  condition: str,
  table: pd.DataFrame,
  mask: Bool[np.ndarray, 'T N K'],
  shots: Sequence[int],
  *,
  value: str,
) -> Float[np.ndarray, 'L T N K']:
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
    if there.any():
      at = tuple(np.argwhere(there)[0].tolist())
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
      told = ', '.join(f'{key} {first[key]}' for key in columns[1:])
      expected = ', '.join(map(str, shots)) if name == 'shots' else f'0..{len(values) - 1}'
      raise ValueError(f'condition {condition!r}, {told}: {name} must be among {expected}')
    places.append(place)
  return np.asarray(np.ravel_multi_index(tuple(places), (len(shots), *mask.shape)))


def _place(condition: str, columns: Sequence[str], shots: Sequence[int], at: Sequence[int]) -> str:
  """Names a place in [L, T, N] or [L, T, N, K] by its columns."""
  row, user, *rest = at
  numbers = (user, shots[row], *rest)
  told = ', '.join(f'{name} {number}' for name, number in zip(columns[1:], numbers))
  return f'condition {condition!r}, {told}'
