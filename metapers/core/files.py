"""Files and folders that are the old ones or the new ones, never a half; JSON files."""

import contextlib
import errno
import hashlib
import json
import os
import pathlib
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from metapers.core import fields

FULL = (errno.ENOSPC, errno.EDQUOT)
DEEPEST = 100  # objects and lists within each other


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


def check_replaceable(folder: pathlib.Path, names: Sequence[str]) -> None:
  """Refuses to replace a folder of anything but a few files: whatever else is there would be lost.

  Args:
    folder: may be missing, or empty.
    names: of the files that may be in it, the first of which says what it is.

  Raises:
    ValueError: naming what else is there.
  """
  is_folder = folder.is_dir() or not folder.exists()
  there = {path.name for path in folder.glob('*')} if is_folder else {folder.name}
  other = sorted(there - set(names))
  if other or (there and names[0] not in there):
    found = f'{", ".join(other[:4])}, which would be lost' if other else f'no {names[0]}'
    raise ValueError(f'{folder} holds {found}; give another folder')


def is_disk_full(error: BaseException | None) -> bool:
  """Returns whether an error, or one that it came from, is of a disk or a quota without space."""
  while error is not None:
    # What writes in C++ raises other types, with the system's words in the message.
    words = str(error)
    if getattr(error, 'errno', None) in FULL or any(os.strerror(code) in words for code in FULL):
      return True
    error = error.__cause__ or error.__context__
  return False


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
  _check_depth(value, source)
  return value


def json_lines(path: str | os.PathLike) -> Iterator[tuple[str, dict[str, Any]]]:
  """Yields where each line of a .jsonl file stands, for messages, and its record; not blank ones.

  Lines end at line feeds alone: texts may hold other characters that Unicode calls line breaks.

  Raises:
    ValueError: for a line that is not JSON, or no object, with its number.
  """
  for number, line in enumerate(read_bytes(path).split(b'\n'), 1):
    if line.strip():
      source = f'{path}, line {number}'
      yield source, parse_json(line, source)


def read_json(path: str | os.PathLike, form: str = '') -> dict[str, Any]:
  """Returns the JSON object that a file holds.

  Args:
    path: of the file.
    form: what its folder is where it is there, for the message where it is missing.

  Raises:
    ValueError: for a file that is missing, or as `parse_json` does.
  """
  return parse_json(read_bytes(path, form), path)


def write_json(path: str | os.PathLike, value: Mapping[str, Any]) -> pathlib.Path:
  """Writes a JSON object to a file, atomically, and returns the path."""
  return write_atomically(path, json.dumps(value, indent=2) + '\n')


def read_manifest(
  path: pathlib.Path, form: str, version: int, kinds: Mapping[str, Any]
) -> tuple[dict[str, Any], bytes]:
  """Returns the JSON object by which a folder says what it is.

  Args:
    path: of the file.
    form: what its field `format` must be.
    version: what its field `version` must be.
    kinds: name -> type of the others that must be there, see `fields.check`.

  Returns:
    The fields, and the bytes that they were read from.

  Raises:
    ValueError: for a file that is missing, no JSON, of another format or version, or with a
      field that is missing or of another type or range.
  """
  content = read_bytes(path, form)
  manifest = parse_json(content, path)
  if manifest.get('format') != form:
    raise ValueError(f'{path} is no {form}: its format is {manifest.get("format")!r:.80}')
  if manifest.get('version') != version:
    raise ValueError(f'{path} has version {manifest.get("version")!r}; this code reads {version}')
  fields.check(path, manifest, kinds)
  return manifest, content


def read_bytes(path: str | os.PathLike, form: str = '') -> bytes:
  """Returns the contents of a regular file.

  Args:
    path: of the file.
    form: what its folder is where it is there, for the message where it is missing.

  Raises:
    ValueError: as `regular`.
  """
  path = pathlib.Path(path)
  if form and not path.exists():
    raise ValueError(f'{path.parent} holds no {form}: it has no {path.name}; give another folder')
  return regular(path).read_bytes()


def regular(path: str | os.PathLike) -> pathlib.Path:
  """Returns the path of a file that ends, as a pipe or a device may not.

  Raises:
    ValueError: for a path of nothing, or of something else.
  """
  path = pathlib.Path(path)
  if not path.exists():
    raise ValueError(f'{path} is missing')
  if not path.is_file():
    raise ValueError(f'{path} is a folder, a pipe or a device; give a file')
  return path


def within(folder: str | os.PathLike, name: str) -> pathlib.Path:
  """Returns the path of a file that a manifest names, which must lie in the folder.

  Args:
    folder: where the file must be.
    name: with slashes.

  Raises:
    ValueError: for an absolute name or one with `..`, a file that is missing, or a link that leads
      out of the folder.
  """
  require_relative(name, folder)
  path = regular(pathlib.Path(folder, name))
  if not path.resolve().is_relative_to(pathlib.Path(folder).resolve()):
    raise ValueError(f'{path} leads out of {folder}, to {path.resolve()}; copy the file there')
  return path


def require_relative(name: str, source: str | os.PathLike) -> None:
  """Refuses the name of a file that leads out of its folder.

  Args:
    name: with slashes.
    source: what names it, for the message.

  Raises:
    ValueError: for an absolute name, or one with `..` in it.
  """
  path = pathlib.PureWindowsPath(name)  # which takes both kinds of slashes
  if path.anchor or '..' in path.parts or not path.parts:
    raise ValueError(f'{source} names the file {name!r}, which would lie outside of the folder')


def _check_depth(value: Any, source: str | os.PathLike) -> None:
  inner = [value]
  for _ in range(DEEPEST):
    inner = [
      part
      for each in inner
      for part in (each.values() if isinstance(each, dict) else each)
      if isinstance(part, dict | list)
    ]
    if not inner:
      return
  raise ValueError(f'{source} is not JSON that anyone needs: nested deeper than {DEEPEST}')


def reason_of(error: BaseException) -> str:
  """Returns what an error says, on one line."""
  return ' '.join(str(error).split())[:300] or type(error).__name__


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
