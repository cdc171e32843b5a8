"""What a leak is, and arrays as keys that are compared at once."""

from typing import NamedTuple

import numpy as np

from metapers.core.types import Array, Bool, Int

HostArray = np.ndarray | Array  # fetched already: what is done to it is done on the host


class Leak(NamedTuple):
  """What a learner could know and must not.

  kind: of the check that found it. told: what leaks, how much of it and what to do; a sentence.
  """

  kind: str
  told: str


class Codes(NamedTuple):
  """What T users were shown, as numbers. code: [T, N]. mask: [T, N], True where it is real."""

  code: Int[HostArray, 'T N']
  mask: Bool[HostArray, 'T N']


def keys(rows: HostArray) -> np.ndarray:
  """Packs the last axis of [..., X] into one value each, [...]: equal keys are equal rows."""
  rows = np.ascontiguousarray(np.asarray(rows) + np.zeros((), rows.dtype))  # -0.0 becomes 0.0
  return rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[-1])))[..., 0]


def num_met_again(before: Codes, judged: Codes) -> tuple[int, int]:
  """Counts what users are judged on that the same user was shown before, and these users."""
  size = 1 + max(int(part.code.max(initial=0)) for part in (before, judged))

  def with_user(part: Codes) -> np.ndarray:
    return np.arange(len(part.code))[:, None] * size + part.code

  again = judged.mask & np.isin(with_user(judged), with_user(before)[before.mask])
  return int(again.sum()), int(again.any(1).sum())
