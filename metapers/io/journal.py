"""Answers that outlive a kill: one a line, under a line that says how they were asked for."""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import filelock

from metapers.core import fields, files


class Journal:
  """A file of JSON lines that grows by one record at a time.

  records: those there were when it was opened, in order.

  Args:
    path: of the file; made with the first record. A last line that a kill cut short is dropped.
    shared: what all records have in common, the first line.
    kinds: field -> type of a record, see `fields.check`.

  Raises:
    ValueError: if its records were asked for otherwise, a line of it cannot be read, no record
      could be written, or another process writes it.
  """

  def __init__(self, path: str | os.PathLike, shared: Mapping[str, Any], kinds: Mapping[str, Any]):
    path = pathlib.Path(path)
    _require_writable(path)
    self._made = files.make_folders(path.absolute().parent)
    self._lock = _locked(path)
    try:
      self._open(path, shared, kinds)
    except ValueError:
      self.close()
      raise

  def _open(self, path: pathlib.Path, shared: Mapping[str, Any], kinds: Mapping[str, Any]) -> None:
    self._file = None
    shared = json.loads(json.dumps(shared))  # as it will be read again: tuples are lists
    lines = _whole_lines(path)
    try:
      found = [files.parse_json(line, f'line {n}') for n, line in enumerate(lines, 1)]
      header, *self.records = found or [dict(shared)]
      for number, record in enumerate(self.records, 2):
        fields.check(f'line {number}', record, kinds)
    except ValueError as error:
      raise ValueError(
        f'{path} is no journal of answers ({error}); remove its wrong lines, or all of it to '
        'begin anew'
      ) from error
    changed = [name for name in sorted({*header, *shared}) if header.get(name) != shared.get(name)]
    if changed:
      values = '; '.join(f'{x}: {header.get(x)} there, {shared.get(x)} now' for x in changed)
      raise ValueError(
        f'{path} holds answers that were asked for otherwise ({values}); ask the same way, or give '
        'another file to write'
      )
    self._path = path
    self._header = None if lines else shared

  def add(self, record: Mapping[str, Any]) -> None:
    """Writes a record."""
    if self._file is None:
      self._file = self._path.open('a', encoding='utf-8')
    found = (self._header, record) if self._header is not None else (record,)
    self._header = None
    self._file.write(''.join(json.dumps(each) + '\n' for each in found))
    self._file.flush()

  def close(self) -> None:
    """Closes the file, and lets it go."""
    if self._file is not None:
      self._file.close()
    if self._lock is not None:
      pathlib.Path(self._lock.lock_file).unlink(missing_ok=True)  # while it is held
      self._lock.release()
      self._lock = None
    files.remove_empty(self._made)


def _locked(path: pathlib.Path) -> filelock.BaseFileLock | None:
  """Holds a journal until it is closed; None where its folder may not be written to."""
  if not os.access(path.parent, os.W_OK):
    return None
  lock = filelock.FileLock(f'{path.absolute()}.lock')
  try:
    lock.acquire(timeout=0)
  except filelock.Timeout as error:
    raise ValueError(
      f'{path} is being written by another process, and answers would be asked for twice; wait for '
      'it to end'
    ) from error
  return lock


def _whole_lines(path: pathlib.Path) -> list[bytes]:
  """Returns the lines of a file, and drops from it what follows the last line break."""
  if not path.exists():
    return []
  content = files.read_bytes(path)
  whole = content[: content.rfind(b'\n') + 1]
  if whole != content:
    with path.open('r+b') as file:
      file.truncate(len(whole))
  return whole.splitlines()


def _require_writable(path: pathlib.Path) -> None:
  """Refuses a file that could not be written, before answers are paid for."""
  nearest = next(place for place in (path, *path.absolute().parents) if place.exists())
  if not os.access(nearest, os.W_OK) or (nearest != path and not nearest.is_dir()):
    raise ValueError(f'{path} cannot be written: {nearest} is no folder that may be written to')
