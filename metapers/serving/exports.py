"""A trained learner as a small folder that needs nothing else: `learner.json` and `params.npz`."""

import hashlib
import io
import json
import lzma
import os
import pathlib
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from metapers.core import files
from metapers.core.population import Scaling
from metapers.core.types import Params, PyTree
from metapers.io import leaves

FORMAT, VERSION = 'metapers-learner', 1
HEADER, PARAMETERS = 'learner.json', 'params.npz'
FOLDER = 'export'  # of a training run's workdir
FIELDS = {
  'learner': str, 'kwargs': dict, 'num_candidates': int, 'feature_names': list, 'about': str,
  'trained_on': dict, 'mean': list, 'scale': list, 'sha256': str,
}  # fmt: skip
DAMAGE = (
  EOFError, LookupError, MemoryError, OSError, OverflowError, RuntimeError, SyntaxError, TypeError,
  ValueError, lzma.LZMAError, struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What zipfile and numpy raise for bytes that are no npz file (found by damaging one)."""


class Export(NamedTuple):
  """A trained learner.

  learner: its name. kwargs: of its factory, `num_features` and `num_users` included.
  params: arrays by the path to each in the learner's parameters, see `leaves.named`.
  num_candidates: K, the most candidates that a comparison had in training.
  scaling: of raw features. feature_names: D names in order; () where they have none.
  trained_on: what the population says of itself. about: one line for people.
  """

  learner: str
  kwargs: Mapping[str, Any]
  params: Mapping[str, np.ndarray]
  num_candidates: int
  scaling: Scaling
  feature_names: tuple[str, ...]
  trained_on: Mapping[str, str | float]
  about: str


def write(folder: str | os.PathLike, export: Export) -> pathlib.Path:
  """Writes an export; a kill at any moment leaves no half of one.

  Args:
    folder: made if missing; an older export there is replaced.
    export: what to write.

  Returns:
    The folder.

  Raises:
    ValueError: for a folder that holds something else, or parts that do not fit each other.
  """
  folder = pathlib.Path(folder)
  if folder.exists() and not is_export(folder):
    raise ValueError(f'{folder} exists and is no export; give another folder')
  check(folder, export)
  arrays = packed(export.params)
  fields = {**export._asdict(), **_listed(export.scaling), 'sha256': _sha256(arrays)}
  header = {'format': FORMAT, 'version': VERSION, **{name: fields[name] for name in FIELDS}}
  with files.writing_folder(folder) as place:
    (place / PARAMETERS).write_bytes(arrays)
    (place / HEADER).write_text(json.dumps(header, indent=2) + '\n', encoding='utf-8')
  return folder


def is_export(folder: str | os.PathLike) -> bool:
  """Tells whether a folder holds an export, whole or not."""
  return (pathlib.Path(folder) / HEADER).is_file()


def read(folder: str | os.PathLike) -> Export:
  """Reads an export, and believes nothing that does not fit.

  Raises:
    ValueError: for a folder without one, another format or version, a missing field, parameters
      whose sha256 is another one, or widths that do not agree.
  """
  folder = pathlib.Path(folder)
  header, _ = files.read_manifest(folder / HEADER, FORMAT, VERSION, FIELDS)
  path = folder / PARAMETERS
  content = path.read_bytes() if path.is_file() else b''
  if _sha256(content) != header['sha256']:
    raise ValueError(
      f'{path} is missing or not the file that {HEADER} tells of (sha256 {_sha256(content)[:12]}, '
      f'expected {header["sha256"][:12]}); copy the whole folder anew'
    )
  scaling = Scaling(*(np.array(header[name], np.float32) for name in Scaling._fields))
  header |= {'scaling': scaling, 'params': unpacked(path, content)}
  header['feature_names'] = tuple(header['feature_names'])
  return check(folder, Export(**{name: header[name] for name in Export._fields}))


def check(source: str | os.PathLike, export: Export) -> Export:
  """Makes sure that the widths of an export agree, and returns it.

  Raises:
    ValueError: naming what does not fit.
  """
  mean, scale = export.scaling
  width = export.kwargs.get('num_features')
  names = len(export.feature_names) or width
  if not mean.shape == scale.shape == (width,) or names != width:
    raise ValueError(
      f'{source}: num_features is {width}, but there are {mean.size} means, {scale.size} scales '
      f'and {len(export.feature_names)} feature names; export the run anew'
    )
  numbers = (mean, scale, *export.params.values())
  if not all(np.isfinite(array).all() for array in numbers) or not np.all(scale > 0):
    raise ValueError(f'{source}: parameters and scaling must be finite, and scales above 0')
  return export


def fingerprint(export: Export) -> str:
  """Returns the sha256 of all that a prediction depends on; wording and file format are not."""
  content = {
    'learner': export.learner,
    'kwargs': export.kwargs,
    **_listed(export.scaling),
    'params': leaves.checksums(export.params),
  }
  return _sha256(json.dumps(content, sort_keys=True).encode())


def rebuild(stored: Mapping[str, np.ndarray], shapes: PyTree) -> Params:
  """Puts stored arrays back into a tree.

  Args:
    stored: arrays by name.
    shapes: the tree with a `ShapeDtypeStruct` for each array, as `jax.eval_shape` gives it.

  Raises:
    ValueError: for a name, shape or dtype that differs.
  """
  like = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
  kinds = [
    {name: f'{array.dtype}{list(array.shape)}' for name, array in arrays.items()}
    for arrays in (stored, leaves.named(like))
  ]
  wrong = leaves.differences(*kinds)
  if wrong:
    found, expected = (kind.get(wrong[0], 'nothing') for kind in kinds)
    raise ValueError(
      f'{len(wrong)} stored arrays do not fit; {wrong[0]!r} is {found}, expected {expected}: '
      'other code stored it; use the version of metapers that did'
    )
  return leaves.like(like, stored)


def unpacked(source: str | os.PathLike, content: bytes) -> dict[str, np.ndarray]:
  """Reads the arrays of an npz file, none of them pickled.

  Args:
    source: where the bytes are from, for messages.
    content: of the file.

  Raises:
    ValueError: for bytes that are no npz of arrays, or are cut short or altered.
  """
  try:
    # np.load would take what is no zip for a pickle, and recommend to allow it; nor does it read a
    # member to its end, where zipfile compares checksums.
    with zipfile.ZipFile(io.BytesIO(content)) as stored:
      members = {name.removesuffix('.npy'): stored.read(name) for name in stored.namelist()}
    return {
      name: np.lib.format.read_array(io.BytesIO(member), allow_pickle=False)
      for name, member in members.items()
    }
  except DAMAGE as error:
    raise ValueError(
      f'{source} cannot be read: no npz file of plain arrays, or a damaged one; restore it from a '
      'copy'
    ) from error


def packed(arrays: Mapping[str, np.ndarray]) -> bytes:
  """Returns the bytes of an npz file of arrays; the same arrays give the same bytes."""
  buffer = io.BytesIO()
  np.savez(buffer, allow_pickle=False, **arrays)
  return buffer.getvalue()


def _listed(scaling: Scaling) -> dict[str, list[float]]:
  return {name: part.tolist() for name, part in scaling._asdict().items()}


def _sha256(content: bytes) -> str:
  return hashlib.sha256(content).hexdigest()
