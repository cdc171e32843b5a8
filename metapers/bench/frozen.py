"""Frozen episodes: what learners of any framework see, and apart from it what only judges see.

A folder holds `manifest.json`; for each condition `CONDITION/test.npz`, which is judged, and
`CONDITION/validation.npz`; `train.npz`, users to learn from; and the folder `truth`: all that is
needed to evaluate, and may be kept elsewhere. The manifest has the sha256, shapes and dtypes of
all.
"""

import contextlib
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from metapers.bench import frozen_arrays
from metapers.core import files

FORMAT, VERSION = 'metapers-episodes', 1
MANIFEST, TRUTH = 'manifest.json', 'truth'
FIELDS = {
  'format': str, 'version': int, 'protocol': str, 'source': str, 'licence': str, 'config': dict,
  'conditions': list, 'files': dict,
}  # fmt: skip
Arrays = Mapping[str, np.ndarray]


class Draft(NamedTuple):
  """A folder being written.

  folder: its place for now. about: of the manifest, to be filled. files: their entries so far.
  """

  folder: pathlib.Path
  about: dict[str, Any]
  files: dict[str, Any]
  is_compressed: bool

  def add(self, name: str, arrays: Arrays) -> None:
    """Writes `name`, an npz file; the same arrays give the same bytes."""
    content = files.packed(arrays, is_compressed=self.is_compressed)
    files.write_atomically(self.folder / name, content)
    self.files[name] = {
      'sha256': files.sha256(content),
      'arrays': {key: described(key, np.asarray(array)) for key, array in arrays.items()},
    }


@contextlib.contextmanager
def writing(folder: str | os.PathLike, *, is_compressed: bool = False) -> Iterator[Draft]:
  """Opens a new folder of episodes to write; it gets its name when the block ends well.

  Args:
    folder: must not exist.
    is_compressed: take more time and less space. The bytes then depend on the version of zlib.

  Raises:
    ValueError: for a folder that exists.
  """
  folder = pathlib.Path(folder)
  if folder.exists():
    raise ValueError(f'{folder} exists; give a name that is free')
  with files.writing_folder(folder) as place:
    draft = Draft(place, {}, {}, is_compressed)
    yield draft
    manifest = {'format': FORMAT, 'version': VERSION, **draft.about, 'files': draft.files}
    files.write_json(place / MANIFEST, manifest)


def described(name: str, array: np.ndarray) -> dict[str, Any]:
  """Returns the manifest's entry of an array; `REFERENCE.log_probs` is described as `log_probs`."""
  letters, meaning = frozen_arrays.ARRAYS[name.rpartition('.')[-1]]
  kind = {'shape': list(array.shape), 'dtype': str(array.dtype)}
  return {**kind, 'dimensions': letters, 'meaning': meaning}


def read(folder: str | os.PathLike) -> dict[str, Any]:
  """Reads the manifest of a folder of episodes.

  Raises:
    ValueError: for a folder without one, another format or version, or a missing field.
  """
  return files.read_manifest(pathlib.Path(folder) / MANIFEST, FORMAT, VERSION, FIELDS)[0]


def load(
  folder: str | os.PathLike, manifest: Mapping[str, Any], name: str, *, truth: str | None = None
) -> dict[str, np.ndarray]:
  """Reads the arrays of one file, and believes nothing that does not fit the manifest.

  Args:
    folder: of the episodes.
    manifest: of the folder, see `read`.
    name: of the file, as in the manifest.
    truth: where the folder `truth` is kept; None looks for it beside the manifest.

  Raises:
    ValueError: for a file that the manifest does not know, that is missing, or whose sha256 is
      another one.
  """
  first, *rest = pathlib.PurePosixPath(name).parts
  path = pathlib.Path(truth, *rest) if truth and first == TRUTH else pathlib.Path(folder, name)
  entry = manifest['files'].get(name)
  if entry is None or '..' in rest:
    raise ValueError(f'{folder}/{MANIFEST} knows no file {name!r}; export the episodes anew')
  if not path.is_file():
    where = '; give --truth=FOLDER, where the truth is kept' if first == TRUTH else ''
    raise ValueError(f'{path} is missing{where}')
  content = path.read_bytes()
  found = files.sha256(content)
  if found != entry['sha256']:
    raise ValueError(
      f'{path} is not the file that {MANIFEST} tells of (sha256 {found[:12]}, expected '
      f'{entry["sha256"][:12]}); restore it, for other episodes give other numbers'
    )
  return files.unpacked(path, content)


def fingerprint(folder: str | os.PathLike) -> str:
  """Returns the sha256 of the manifest, and so of all files: two results of one are comparable."""
  return files.sha256((pathlib.Path(folder) / MANIFEST).read_bytes())
