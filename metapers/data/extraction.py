"""Texts through reward models into the parts of a feature store: once, in shards, resumably.

A part is one model on some prompts. Parts hold scores [n, R] float32 (NaN where there is nothing to
score) and, of the model whose features are kept, features [n, R, D] float16.
"""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from metapers.core.types import Bool, Float
from metapers.data import shards, texts
from metapers.data.shards import Job, Part
from metapers.data.texts import Texts


class Scored(NamedTuple):
  """What a model makes of N texts.

  scores: [N], features: [N, D], each if it makes them. num_truncated: texts that had to be cut.
  version: of the model, such as a commit; parts of different versions are not joined.
  """

  scores: Float[np.ndarray, 'N'] | None
  features: Float[np.ndarray, 'N D'] | None
  num_truncated: int
  version: str


Score = Callable[[Sequence[str], Sequence[str]], Scored]  # of prompts and responses


class Piece(NamedTuple):
  """One part of the work: a model, and prompts start..stop-1."""

  model: str
  start: int
  stop: int

  @property
  def name(self) -> str:
    """Returns the name of its file."""
    return f'{self.model}/{self.start:06d}'


def plan(models: Sequence[str], num_prompts: int, prompts_per_shard: int) -> list[Piece]:
  """Divides the work: for each model, consecutive prompts.

  Raises:
    ValueError: for names that repeat or could not be files, or no prompts in a shard.
  """
  wrong = [name for name in models if not name.replace('-', '').replace('_', '').isalnum()]
  if wrong or len(set(models)) != len(models):
    raise ValueError(f'names of models must differ and hold letters, digits, - and _; got {models}')
  if prompts_per_shard < 1:
    raise ValueError(f'prompts_per_shard must be at least 1, got {prompts_per_shard}')
  starts = range(0, num_prompts, prompts_per_shard)
  return [
    Piece(name, start, min(start + prompts_per_shard, num_prompts))
    for name in models
    for start in starts
  ]


def share(pieces: Sequence[Piece], text: str) -> list[Piece]:
  """Takes the i-th of n equal shares of the work, written `i/n` with i from 0 to n-1.

  Raises:
    ValueError: for anything else.
  """
  index, slash, count = text.partition('/')
  if not (slash and index.isdigit() and count.isdigit() and 0 <= int(index) < int(count)):
    raise ValueError(f'shard must be written i/n with 0 <= i < n, such as 0/4; got {text!r}')
  return list(pieces[int(index) :: int(count)])


def make_part(score: Score, read: Texts, piece: Piece) -> Part:
  """Scores the readable responses of a piece."""
  rows = slice(piece.start, piece.stop)
  responses, mask = read.responses[rows], texts.readable(read)[rows]
  if not mask.any():
    return {'num_truncated': np.array(0)}
  prompts = np.broadcast_to(read.prompts[rows, None], responses.shape)
  found = score(prompts[mask].tolist(), responses[mask].tolist())
  part = {'num_truncated': np.array(found.num_truncated), 'version': np.array(found.version)}
  if found.scores is not None:
    part['scores'] = spread(np.where(np.isfinite(found.scores), found.scores, np.nan), mask, np.nan)
  if found.features is not None:
    part['features'] = spread(found.features, mask, 0.0)
  return part


def spread(
  values: Float[np.ndarray, 'N *D'], mask: Bool[np.ndarray, 'n R'], empty: float
) -> np.ndarray:
  """Puts the values of readable responses in their places: [n, R, ...]."""
  made = np.full((*mask.shape, *values.shape[1:]), empty, values.dtype)
  made[mask] = values
  return made


def features_file(job: Job) -> pathlib.Path:
  """Returns the file that joined features are mapped to, of no use once the store is written."""
  return job.folder / '.features.npy'


class Extracted(NamedTuple):
  """What the parts hold together.

  scores: model -> [P, R]. features: [P, R, D] on disk, or None. num_truncated: model -> texts cut.
  versions: model -> its version.
  """

  scores: dict[str, Float[np.ndarray, 'P R']]
  features: Float[np.ndarray, 'P R D'] | None
  num_truncated: dict[str, int]
  versions: dict[str, str]


def join(job: Job, pieces: Sequence[Piece], read: Texts) -> Extracted:
  """Joins all parts; features are written to a file piece by piece and mapped.

  Raises:
    ValueError: for a part that is missing or damaged, parts of different versions of a model, or
      features of several models.
  """
  scores: dict[str, np.ndarray] = {}
  num_truncated: dict[str, int] = {}
  versions: dict[str, str] = {}
  features, featured = None, None
  for piece in pieces:
    part = shards.load(job, piece.name)
    cut = num_truncated.get(piece.model, 0)
    num_truncated[piece.model] = cut + int(part['num_truncated'])
    rows = slice(piece.start, piece.stop)
    if 'version' in part:
      version = str(part['version'])
      if versions.setdefault(piece.model, version) != version:
        raise ValueError(
          f'{piece.name} was made by {version} of {piece.model}, others by '
          f'{versions[piece.model]}; delete it and go on'
        )
    if 'scores' in part:
      whole = scores.setdefault(piece.model, np.full(read.responses.shape, np.nan, np.float32))
      whole[rows] = part['scores']
    if 'features' in part:
      if features is None:
        features, featured = _map_features(job, read, part['features']), piece.model
      if piece.model != featured:
        raise ValueError(f'features of {featured} and of {piece.model}; a store holds one of them')
      features[rows] = part['features']
  return Extracted(scores, features, num_truncated, versions)


def _map_features(job: Job, read: Texts, first: np.ndarray) -> Any:
  shape = (*read.responses.shape, first.shape[-1])
  # D may be 4,096: more than fits in memory.
  return np.lib.format.open_memmap(features_file(job), 'w+', first.dtype, shape)
