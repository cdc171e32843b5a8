"""Files and folders that are the old ones or the new ones, never a half; JSON and npz files."""

import contextlib
import hashlib
import io
import json
import lzma
import os
import pathlib
import re
import secrets
import shutil
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

DAMAGE = (
  EOFError, LookupError, MemoryError, OSError, OverflowError, RuntimeError, SyntaxError, TypeError,
  ValueError, lzma.LZMAError, struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What zipfile and numpy raise for bytes that are no npz file (found by damaging one)."""


def write_atomically(path: str | os.PathLike, data: str | bytes) -> pathlib.Path:
  """Writes a file so that a kill at any moment leaves the old contents or the new.

  Args:
    path: where to; its folder is made if needed.
    data: text (written as UTF-8) or bytes.

  Returns:
    The path.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  content = data.encode() if isinstance(data, str) else data
  temporary = path.with_name(f'.{path.name}.{secrets.token_hex(4)}')
  try:
    with temporary.open('xb') as file:  # not mkstemp, whose files heed no umask
      file.write(content)
      file.flush()
      os.fsync(file.fileno())
    temporary.replace(path)
    _to_disk(path.parent)  # or a power cut may undo the rename
  finally:
    temporary.unlink(missing_ok=True)
  return path


def make_folders(path: pathlib.Path) -> list[pathlib.Path]:
  """Makes a folder and its parents, and returns those that were not there, the deepest first."""
  made = [folder for folder in (path, *path.parents) if not folder.exists()]
  path.mkdir(parents=True, exist_ok=True)
  return made


def remove_empty(folders: Iterable[pathlib.Path]) -> None:
  """Removes folders, up to the first one that holds something."""
  with contextlib.suppress(OSError):
    for folder in folders:
      folder.rmdir()


@contextlib.contextmanager
def writing_folder(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """Makes a folder that gets its name, or takes the old one's place, when the block ends well.

  A folder is not renamed onto another, so the old one steps aside first. A kill in that moment
  leaves nothing under the name, and the old folder beside it as `.NAME.<8 letters>.old`: the next
  writer of the name puts it back before it begins.

  Args:
    path: of the folder; its parents are made if needed, and not left empty.

  Yields:
    Where the folder is until then.
  """
  made = make_folders(path.parent)
  left = _retired(path)
  if left and not path.exists():
    left[-1].rename(path)
    _to_disk(path.parent)
  temporary = path.with_name(f'.{path.name}.{secrets.token_hex(4)}')
  temporary.mkdir()  # not mkdtemp, whose folders heed no umask
  try:
    yield temporary
    for part in [*temporary.rglob('*'), temporary]:
      _to_disk(part)  # a rename may outlive a power cut that the bytes do not
    if not path.exists():
      temporary.rename(path)
    else:
      retired = temporary.with_name(f'{temporary.name}.old')
      path.rename(retired)
      try:
        temporary.rename(path)
      except BaseException:
        if not path.exists():  # or another writer was faster
          retired.rename(path)
        raise
    _to_disk(path.parent)  # before the old one goes: a power cut may undo the renames
    for old in _retired(path):
      shutil.rmtree(old, ignore_errors=True)  # what stays, the next writer removes
  finally:
    shutil.rmtree(temporary, ignore_errors=True)
    remove_empty(made)


def sha256(content: bytes) -> str:
  """Returns the sha256 of bytes, in hex."""
  return hashlib.sha256(content).hexdigest()


def parse_json(content: str | bytes, source: str | os.PathLike) -> dict[str, Any]:
  """Returns the JSON object that text or bytes hold.

  Args:
    content: UTF-8.
    source: where it is from, for messages.

  Raises:
    ValueError: for what is not UTF-8, not JSON, nested too deep, or not an object at the top.
  """
  try:
    text = content if isinstance(content, str) else content.decode()
    value = json.loads(text)
  except (ValueError, RecursionError) as error:
    raise ValueError(f'{source} is not JSON: {error}; restore it from a copy') from error
  if not isinstance(value, dict):
    raise ValueError(f'{source} must hold a JSON object, got a {type(value).__name__}')
  return value


def read_json(path: str | os.PathLike, form: str = '') -> dict[str, Any]:
  """Returns the JSON object that a file holds.

  Args:
    path: of the file.
    form: what its folder is where it is there, for the message where it is missing.

  Raises:
    ValueError: for a file that is missing, or as `parse_json` does.
  """
  return parse_json(_content(pathlib.Path(path), form), path)


def write_json(path: str | os.PathLike, value: Mapping[str, Any]) -> pathlib.Path:
  """Writes a JSON object to a file, atomically, and returns the path."""
  return write_atomically(path, json.dumps(value, indent=2) + '\n')


def read_manifest(
  path: pathlib.Path, form: str, version: int, fields: Mapping[str, type]
) -> tuple[dict[str, Any], bytes]:
  """Returns the JSON object by which a folder says what it is.

  Args:
    path: of the file.
    form: what its field `format` must be.
    version: what its field `version` must be.
    fields: name -> type of the others that must be there.

  Returns:
    The fields, and the bytes that they were read from.

  Raises:
    ValueError: for a file that is missing, no JSON, of another format or version, or lacks a field.
  """
  content = _content(path, form)
  manifest = parse_json(content, path)
  if manifest.get('format') != form:
    raise ValueError(f'{path} is no {form}: its format is {manifest.get("format")!r:.80}')
  if manifest.get('version') != version:
    raise ValueError(f'{path} has version {manifest.get("version")!r}; this code reads {version}')
  for name, kind in fields.items():
    if not isinstance(manifest.get(name), kind):
      given = manifest.get(name)
      raise ValueError(f'{path}: field {name!r} must be a {kind.__name__}, got {given!r:.80}')
  return manifest, content


def packed(arrays: Mapping[str, np.ndarray], *, is_compressed: bool = False) -> bytes:
  """Returns the bytes of an npz file of arrays; the same arrays give the same bytes.

  Args:
    arrays: by name; no objects.
    is_compressed: take more time and less space. The bytes then depend on the version of zlib.

  Raises:
    ValueError: for an array of Python objects, which only a pickle could hold.
  """
  kind = zipfile.ZIP_DEFLATED if is_compressed else zipfile.ZIP_STORED
  buffer = io.BytesIO()
  # As np.savez does it, which takes no array named `file`.
  with zipfile.ZipFile(buffer, 'w', kind) as archive:
    for name, array in arrays.items():
      with archive.open(f'{name}.npy', 'w', force_zip64=True) as member:
        np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)
  return buffer.getvalue()


def unpacked(source: str | os.PathLike, content: bytes) -> dict[str, np.ndarray]:
  """Returns the arrays of an npz file, none of them pickled.

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


def write_npz(
  path: str | os.PathLike, arrays: Mapping[str, np.ndarray], *, is_compressed: bool = False
) -> pathlib.Path:
  """Writes arrays to an npz file, atomically, and returns the path; see `packed`."""
  return write_atomically(path, packed(arrays, is_compressed=is_compressed))


def read_npz(path: str | os.PathLike) -> dict[str, np.ndarray]:
  """Returns the arrays of an npz file, none of them pickled.

  Raises:
    ValueError: for a file that is missing, or as `unpacked` does.
  """
  return unpacked(path, _content(pathlib.Path(path)))


def _content(path: pathlib.Path, form: str = '') -> bytes:
  if path.is_file():
    return path.read_bytes()
  if form:
    raise ValueError(f'{path.parent} holds no {form}: it has no {path.name}; give another folder')
  raise ValueError(f'{path} is missing')


def _retired(path: pathlib.Path) -> list[pathlib.Path]:
  """Returns the folders that stepped aside for new ones of this name, the newest last."""
  # Not a glob: that of `mine` would also find those of `mine.too`.
  form = re.compile(rf'\.{re.escape(path.name)}\.[0-9a-f]{{8}}\.old')
  found = [each for each in path.parent.iterdir() if form.fullmatch(each.name)]
  return sorted(found, key=lambda each: each.stat().st_mtime)


def _to_disk(path: pathlib.Path) -> None:
  handle = os.open(path, os.O_RDONLY)
  try:
    os.fsync(handle)
  finally:
    os.close(handle)
