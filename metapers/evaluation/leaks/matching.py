"""What a leak is, and arrays as keys that are compared at once."""

from typing import NamedTuple

import jax
import numpy as np

from metapers.core.task import Candidates
from metapers.core.types import Array, Bool, Float, Int

HostArray = np.ndarray | Array  # fetched already: what is done to it is done on the host


class Leak(NamedTuple):
  """What a learner could know and must not.

  kind: of the check that found it, one of `leaks.CLAIMS`. message: what leaks, how much of it and
  the way out; a sentence. is_certain: False for a likeness that chance or like minds may explain,
  which is said and does not end anything.
  """

  kind: str
  message: str
  is_certain: bool = True


Leaks = dict[str, list[Leak]]  # kind that was looked for -> what was found, [] where nothing


class Codes(NamedTuple):
  """What T users were shown, as numbers. code: [T, N]. mask: [T, N], True where it is real."""

  code: Int[HostArray, 'T N']
  mask: Bool[HostArray, 'T N']


def keys(rows: HostArray) -> np.ndarray:
  """Packs the last axis of [..., X] into one value each, [...]: equal keys are equal rows."""
  rows = np.ascontiguousarray(np.asarray(rows) + np.zeros((), rows.dtype))  # -0.0 becomes 0.0
  return rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[-1])))[..., 0]


def num_repeated(before: Codes, evaluated: Codes) -> tuple[int, int]:
  """Counts what users are evaluated on that the same user was shown before, and these users."""
  size = 1 + max(int(part.code.max(initial=0)) for part in (before, evaluated))

  def with_user(part: Codes) -> np.ndarray:
    return np.arange(len(part.code))[:, None] * size + part.code

  again = evaluated.mask & np.isin(with_user(evaluated), with_user(before)[before.mask])
  return int(again.sum()), int(again.any(1).sum())


class Columns(NamedTuple):
  """All that is known of candidates, as one vector each.

  values: [*T, N, K, D]. names: [D] of the columns, '2' or, of several arrays, '2 of tokens'.
  """

  values: Float[np.ndarray, '*T N K D']
  names: tuple[str, ...]


def columns(candidates: Candidates) -> Columns:
  """Returns the features of candidates as one vector each, several arrays side by side."""
  leaves = jax.tree_util.tree_leaves_with_path(candidates.features)
  shape = candidates.mask.shape
  parts = [np.asarray(leaf).reshape(*shape, -1) for _, leaf in leaves]
  names = [jax.tree_util.keystr(path, simple=True, separator='.') for path, _ in leaves]
  return Columns(
    np.concatenate(parts, -1, dtype=np.result_type(np.float32, *parts)),
    tuple(
      f'{column} of {name}' if name else str(column)
      for name, part in zip(names, parts)
      for column in range(part.shape[-1])
    ),
  )
