"""The manifest of a feature store: what its files must be, by shape, dtype and sha256."""

import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from metapers.core import files

FORMAT, VERSION = 'metapers-feature-store', 1
MANIFEST = 'manifest.json'
# A store may hold these files and no others: names never come from a manifest.
ARRAYS = {
  'rewards': (3, ('float32',)),
  'response_model': (2, ('int8', 'int16', 'int32', 'int64')),
  'features': (3, ('float16', 'float32')),
  'prompt_features': (2, ('float16', 'float32')),
}
TEXTS = 'texts'
REQUIRED = ('rewards', 'response_model')
FIELDS = {
  'format': str, 'version': int, 'source': str, 'made_by': str, 'licence': str,
  'extractor': str, 'revision': str, 'reward_models': list, 'response_models': list,
  'train_mean': dict, 'train_std': dict, 'splits': list, 'prompt_split': list, 'files': dict,
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
  """Writes a manifest as JSON, one field a line."""
  lines = [f'{json.dumps(name)}: {json.dumps(value)}' for name, value in manifest.items()]
  return '{\n' + ',\n'.join(lines) + '\n}\n'


def read(folder: pathlib.Path) -> tuple[dict[str, Any], str]:
  """Reads and checks a manifest.

  Returns:
    The manifest, and its sha256 in hex.

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
  for name, entry in entries.items():
    needed = {'sha256'} if name == TEXTS else {'sha256', 'shape', 'dtype'}
    if not isinstance(entry, dict) or set(entry) != needed:
      raise ValueError(f'{path}: entry {name!r} must have {sorted(needed)}, got {entry!r:.80}')


def locate(folder: pathlib.Path, name: str) -> pathlib.Path:
  """Finds a file of the store, which must lie in the store's own folder.

  Raises:
    ValueError: for a missing file, or a link that leads elsewhere.
  """
  path = file_of(folder, name)
  if not path.is_file():
    raise ValueError(f'{path} is named by the manifest but missing')
  if path.resolve().parent != folder.resolve():
    raise ValueError(f'{path} leads out of the store, to {path.resolve()}; copy the file there')
  return path


def check_sha256(folder: pathlib.Path, name: str, entry: Mapping[str, Any]) -> None:
  """Compares a file's sha256 with the manifest's.

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
  """Opens an array memory-mapped and compares it with its entry in the manifest.

  Raises:
    ValueError: for an unreadable file, or another shape or dtype than the manifest's or the
      format's; names the file and both values.
  """
  path = locate(folder, name)
  try:
    array = np.load(path, mmap_mode='r', allow_pickle=False)
  except (ValueError, EOFError, OSError) as error:
    raise ValueError(f'{path} is not a readable .npy file: {error}') from error
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
