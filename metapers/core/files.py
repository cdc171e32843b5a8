"""Files and folders that are the old ones or the new ones, never a half, and their manifests."""

import contextlib
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any


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
  handle, name = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}.')
  temporary = pathlib.Path(name)
  try:
    with os.fdopen(handle, 'wb') as file:
      file.write(content)
      file.flush()
      os.fsync(file.fileno())
    temporary.chmod(0o644)  # mkstemp makes files that only the owner reads
    temporary.replace(path)
  finally:
    temporary.unlink(missing_ok=True)
  return path


@contextlib.contextmanager
def writing_folder(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """Makes a folder that gets its name, or takes the old one's place, when the block ends well.

  Args:
    path: of the folder; its parents are made if needed.

  Yields:
    Where the folder is until then.
  """
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = pathlib.Path(tempfile.mkdtemp(dir=path.parent, prefix=f'.{path.name}.'))
  try:
    yield temporary
    for part in [*temporary.rglob('*'), temporary]:
      _to_disk(part)  # a rename may outlive a power cut that the bytes do not
    temporary.chmod(0o755)  # mkdtemp makes folders that only the owner enters
    if not path.exists():
      temporary.rename(path)
    else:
      retired = temporary.with_name(f'{temporary.name}.old')  # a folder is not renamed onto another
      path.rename(retired)
      temporary.rename(path)
      shutil.rmtree(retired)
  finally:
    shutil.rmtree(temporary, ignore_errors=True)


def read_manifest(
  path: pathlib.Path, form: str, version: int, fields: Mapping[str, type]
) -> tuple[dict[str, Any], bytes]:
  """Reads the JSON file by which a folder says what it is.

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
  if not path.is_file():
    raise ValueError(f'{path.parent} holds no {form}: it has no {path.name}')
  content = path.read_bytes()
  try:
    manifest = json.loads(content)
  except ValueError as error:
    raise ValueError(f'{path} is not JSON: {error}') from error
  if not isinstance(manifest, dict) or manifest.get('format') != form:
    raise ValueError(f'{path} does not tell of {form}')
  if manifest.get('version') != version:
    raise ValueError(f'{path} has version {manifest.get("version")!r}; this code reads {version}')
  for name, kind in fields.items():
    if not isinstance(manifest.get(name), kind):
      given = manifest.get(name)
      raise ValueError(f'{path}: field {name!r} must be a {kind.__name__}, got {given!r:.80}')
  return manifest, content


def _to_disk(path: pathlib.Path) -> None:
  handle = os.open(path, os.O_RDONLY)
  try:
    os.fsync(handle)
  finally:
    os.close(handle)
