"""The manifest of a feature store: what its files must be, and whether they fit each other."""

import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pydantic

from metapers.core import array_files, fields, files
from metapers.core.population import SPLITS
from metapers.core.types import Bool, Float

FORMAT, VERSION = 'metapers-feature-store', 1
MANIFEST = 'manifest.json'
TOLERANCE = 1e-3  # of a reward model's sd, for the mean and the sd
# A store may hold these files and no others: names never come from a manifest.
ARRAYS = {
  'rewards': (3, ('float32',)),
  'response_model': (2, ('int8', 'int16', 'int32', 'int64')),
  'features': (3, ('float16', 'float32')),
  'prompt_features': (2, ('float16', 'float32')),
}
TEXTS = 'texts'
REQUIRED = ('rewards', 'response_model')


class FileEntry(pydantic.BaseModel):
  """What the manifest says of a file."""

  sha256: str


class ArrayEntry(FileEntry, fields.Stored):
  """What it says of an array."""


FIELDS = {
  'format': str, 'version': int, 'source': str, 'made_by': str, 'licence': str,
  'extractor': str, 'revision': str, 'reward_models': list[str], 'response_models': list[str],
  'train_mean': dict[str, fields.Number], 'train_std': dict[str, fields.Number],
  'splits': list[str], 'prompt_split': list[int], 'files': dict,
}  # fmt: skip


class Provenance(NamedTuple):
  """Where a store comes from.

  source: one line shown with every result. made_by: command or method. licence: of the data.
  extractor, revision: model that made the features, '' without features.
  """

  source: str
  made_by: str
  licence: str
  extractor: str = ''
  revision: str = ''


def file_of(folder: pathlib.Path, name: str) -> pathlib.Path:
  """Returns the path of one of the store's files."""
  return folder / (f'{name}.parquet' if name == TEXTS else f'{name}.npy')


def sha256(path: pathlib.Path) -> str:
  """Returns the sha256 of a file, in hex."""
  with path.open('rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def describe(path: pathlib.Path, array: np.ndarray | None) -> dict[str, Any]:
  """Returns the manifest's entry of a written file; texts have neither shape nor dtype."""
  entry: dict[str, Any] = {'sha256': sha256(path)}
  if array is not None:
    entry |= {'shape': list(array.shape), 'dtype': str(array.dtype)}
  return entry


def dumps(manifest: Mapping[str, Any]) -> str:
  """Returns a manifest as JSON, one field a line."""
  lines = [f'{json.dumps(name)}: {json.dumps(value)}' for name, value in manifest.items()]
  return '{\n' + ',\n'.join(lines) + '\n}\n'


def read_store_manifest(folder: pathlib.Path) -> tuple[dict[str, Any], str]:
  """Returns the manifest of a store, and its sha256 in hex.

  Raises:
    ValueError: for a folder without one, another format, or fields that are missing or of another
      type.
  """
  path = folder / MANIFEST
  manifest, content = files.read_manifest(path, FORMAT, VERSION, FIELDS)
  _check_entries(path, manifest['files'])
  return manifest, files.sha256(content)


def _check_entries(path: pathlib.Path, entries: Mapping[str, Any]) -> None:
  known = (*ARRAYS, TEXTS)
  wrong = sorted(set(entries) - set(known)) + sorted(set(REQUIRED) - set(entries))
  if wrong:
    raise ValueError(
      f'{path}: files must be among {", ".join(known)} and include {", ".join(REQUIRED)}; '
      f'unknown or missing: {", ".join(wrong)}'
    )
  kinds = {name: FileEntry if name == TEXTS else ArrayEntry for name in entries}
  fields.check(f'{path}: files', entries, kinds)


def locate(folder: pathlib.Path, name: str) -> pathlib.Path:
  """Returns the path of a file of the store, which must lie in the store's own folder.

  Raises:
    ValueError: for a missing file, or a link that leads elsewhere.
  """
  return files.within(folder, file_of(folder, name).name)


def check_sha256(folder: pathlib.Path, name: str, entry: Mapping[str, Any]) -> None:
  """Checks that a file's sha256 is the manifest's.

  Raises:
    ValueError: naming the file and both values.
  """
  path = locate(folder, name)
  found = sha256(path)
  if found != entry['sha256']:
    raise ValueError(
      f'{path} does not fit its manifest: sha256 {found}, manifest {entry["sha256"]}; '
      'restore the file or make the store again'
    )


def load_array(folder: pathlib.Path, name: str, entry: Mapping[str, Any]) -> np.ndarray:
  """Returns an array, memory-mapped, after comparing it with its entry in the manifest.

  Raises:
    ValueError: for an unreadable file, or another shape or dtype than the manifest's or the
      format's; names the file and both values.
  """
  path = locate(folder, name)
  array = array_files.read_npy(path)
  if list(array.shape) != entry['shape'] or str(array.dtype) != entry['dtype']:
    raise ValueError(
      f'{path} does not fit its manifest: {array.dtype} {list(array.shape)}, '
      f'manifest {entry["dtype"]} {entry["shape"]}'
    )
  check_kind(str(path), name, array)
  return array


def check_kind(label: str, name: str, array: np.ndarray) -> None:
  """Checks rank and dtype of an array against the format.

  Raises:
    ValueError: naming what was given and what is expected.
  """
  rank, dtypes = ARRAYS[name]
  if array.ndim != rank or str(array.dtype) not in dtypes:
    raise ValueError(
      f'{label} must have {rank} dimensions and be {" or ".join(dtypes)}, '
      f'got {array.dtype} {list(array.shape)}'
    )


def check_shapes(
  label: str,
  content: Mapping[str, Any],
  arrays: Mapping[str, np.ndarray],
  texts: np.ndarray | None,
) -> None:
  """Checks that arrays fit each other and the names and splits of the manifest.

  Args:
    label: what is checked, for messages.
    content: fields of the manifest.
    arrays: by name, of the right rank each.
    texts: [P, R] or None.

  Raises:
    ValueError: naming both values.
  """
  num_prompts, num_responses, num_models = arrays['rewards'].shape
  if not arrays['rewards'].size:
    raise ValueError(f'{label}: rewards are empty, of shape {arrays["rewards"].shape}')
  shapes = {name: array.shape for name, array in arrays.items()}
  if texts is not None:
    shapes['texts'] = texts.shape
  for name, shape in shapes.items():
    expected = (num_prompts,) if name == 'prompt_features' else (num_prompts, num_responses)
    if shape[: len(expected)] != expected:
      raise ValueError(f'{label}: {name} has shape {shape}, rewards start with {expected}')
  _check_names(f'{label}: reward_models', content['reward_models'], num_models)
  _check_names(f'{label}: response_models', content['response_models'], None)
  models = arrays['response_model']
  if models.min() < 0 or models.max() >= len(content['response_models']):
    raise ValueError(
      f'{label}: response_model holds {models.min()}..{models.max()}, '
      f'{len(content["response_models"])} response_models are named'
    )
  _check_splits(label, content, num_prompts)


def check_finite(features: Float[np.ndarray, 'P R D'], mask: Bool[np.ndarray, 'P R']) -> None:
  """Checks that the features of usable responses are finite.

  Raises:
    ValueError: naming the first prompt and response that are not.
  """
  for prompt, (row, real) in enumerate(zip(features, mask, strict=True)):  # may not fit in memory
    bad = np.flatnonzero(real & ~np.isfinite(row).all(-1))
    if bad.size:
      raise ValueError(
        f'features of response {bad[0]} of prompt {prompt} are not finite; set its scores to NaN '
        'to mask it'
      )


def check_statistics(
  path: pathlib.Path,
  content: Mapping[str, Any],
  mean: Float[np.ndarray, 'B'],
  std: Float[np.ndarray, 'B'],
) -> None:
  """Checks that the manifest's statistics, by name, are those of the scores, by position.

  A manifest whose reward models are in another order than its scores fails here.

  Raises:
    ValueError: naming the reward model and both values.
  """
  names = content['reward_models']
  for field, values in (('train_mean', mean), ('train_std', std)):
    given = content[field]
    if set(given) != set(names):
      raise ValueError(f'{path}: {field} names {sorted(given)}, reward_models {sorted(names)}')
    for name, value, scale in zip(names, values.tolist(), std.tolist(), strict=True):
      number = isinstance(given[name], int | float)
      if not (number and abs(given[name] - value) <= TOLERANCE * scale):
        raise ValueError(
          f'{path}: {field} of {name!r} is {given[name]}, of its scores {value:.6g}; '
          'are reward_models in the order of rewards.npy?'
        )


def _check_names(label: str, names: list, expected: int | None) -> None:
  if not all(isinstance(name, str) for name in names) or len(set(names)) != len(names):
    raise ValueError(f'{label} must be different strings, got {names!r:.200}')
  if expected is not None and len(names) != expected:
    raise ValueError(f'{label} names {len(names)}, rewards have {expected} along the last axis')


def _check_splits(label: str, content: Mapping[str, Any], num_prompts: int) -> None:
  if content['splits'] != list(SPLITS):
    raise ValueError(f'{label}: splits must be {list(SPLITS)}, got {content["splits"]}')
  split = content['prompt_split']
  if len(split) != num_prompts:
    raise ValueError(f'{label}: prompt_split has {len(split)} entries, rewards {num_prompts} rows')
  wrong = [entry for entry in split if entry not in range(len(SPLITS))]
  if wrong:
    raise ValueError(f'{label}: prompt_split must hold 0, 1 and 2 only, got {wrong[0]!r:.80}')
