"""Files of arrays: what a header says is compared with the size of the file before it is believed.

numpy takes memory for the shape that stands in a header, and zipfile inflates a member to its end;
both may say anything.
"""

import io
import lzma
import math
import os
import pathlib
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from metapers.core import files

DAMAGE = (
  EOFError, LookupError, MemoryError, OSError, OverflowError, RuntimeError, SyntaxError, TypeError,
  ValueError, lzma.LZMAError, struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What zipfile and numpy raise for bytes that are no npz file (found by damaging one)."""
HEADER_BYTES = 2**16 + 12  # no more are read for a header; numpy believes 10,000 of them
READERS = {
  (1, 0): np.lib.format.read_array_header_1_0,
  (2, 0): np.lib.format.read_array_header_2_0,
}


class Header(NamedTuple):
  """What a .npy file says of its array."""

  shape: tuple[int, ...]
  dtype: np.dtype


def packed(arrays: Mapping[str, np.ndarray], *, is_compressed: bool = False) -> bytes:
  """Returns the bytes of an npz file of arrays; the same arrays give the same bytes.

  Args:
    arrays: by name; no objects.
    is_compressed: take more time and less space. The bytes then depend on the version of zlib.

  Raises:
    ValueError: for an array of Python objects, which only a pickle could hold, or of numbers that
      NumPy has no name for, such as bfloat16, which would come back as bytes.
  """
  nameless = [name for name, array in arrays.items() if np.asanyarray(array).dtype.kind == 'V']
  if nameless:
    raise ValueError(f'arrays {", ".join(nameless[:4])} are of a dtype that no npz file has')
  kind = zipfile.ZIP_DEFLATED if is_compressed else zipfile.ZIP_STORED
  buffer = io.BytesIO()
  # As np.savez does it, which takes no array named `file`.
  with zipfile.ZipFile(buffer, 'w', kind) as archive:
    for name, array in arrays.items():
      with archive.open(f'{name}.npy', 'w', force_zip64=True) as member:
        np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)
  return buffer.getvalue()


def unpacked(
  source: str | os.PathLike,
  content: bytes,
  declared: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, np.ndarray]:
  """Returns the arrays of an npz file, none of them pickled.

  Args:
    source: where the bytes are from, for messages.
    content: of the file.
    declared: name -> the 'shape' and 'dtype' that it must have; only then is a compressed file
      inflated.

  Raises:
    ValueError: for bytes that are no npz of plain arrays, are cut short or altered, or hold other
      arrays than declared; before memory is taken for them.
  """
  try:
    # np.load would take what is no zip for a pickle, and recommend to allow it.
    return read_members(content, declared)
  except DAMAGE as error:
    raise ValueError(
      f'{source} cannot be read ({files.reason_of(error)}): no npz file of plain arrays, or a '
      'damaged one; restore it from a copy'
    ) from error


def write_npz(path: str | os.PathLike, arrays: Mapping[str, np.ndarray]) -> pathlib.Path:
  """Writes arrays to an npz file, atomically, and returns the path; see `packed`."""
  return files.write_atomically(path, packed(arrays))


def read_npz(path: str | os.PathLike) -> dict[str, np.ndarray]:
  """Returns the arrays of an npz file, none of them pickled.

  Raises:
    ValueError: for a file that is missing, or as `unpacked` does.
  """
  return unpacked(path, files.read_bytes(path))


def read_npy(path: str | os.PathLike) -> np.ndarray:
  """Returns the array of a .npy file, memory-mapped.

  Raises:
    ValueError: for a file that is missing, or holds no plain array of just its size.
  """
  path = files.regular(path)
  try:
    with path.open('rb') as file:
      start = file.read(HEADER_BYTES)
    read_header(start, path.stat().st_size, path.name)
    return np.load(path, mmap_mode='r', allow_pickle=False)
  except DAMAGE as error:
    raise ValueError(f'{path} is not a readable .npy file: {files.reason_of(error)}') from error


def read_header(start: bytes, size: int, name: str) -> Header:
  """Returns the header of a .npy file, if a plain array of just this size follows it.

  Args:
    start: the first HEADER_BYTES of the file, or all of it.
    size: of the whole file.
    name: of the array, for messages.

  Raises:
    ValueError: for an array of objects, structs or items without bytes, or another number of bytes.
    DAMAGE: for what is no header.
  """
  stream = io.BytesIO(start)
  shape, _, dtype = READERS[np.lib.format.read_magic(stream)](stream)
  header = Header(shape, dtype)
  if dtype.hasobject or dtype.fields is not None or dtype.subdtype or not dtype.itemsize:
    raise ValueError(f'array {name!r} is of {dtype!r:.80}; only plain numbers and texts are read')
  if not all(type(length) is int and length >= 0 for length in shape):
    raise ValueError(f'array {name!r} has the shape {shape!r:.80}')
  declared, held = math.prod(shape) * dtype.itemsize, size - stream.tell()
  if declared != held:
    raise ValueError(
      f'array {name!r} is declared as {dtype} {list(shape)!r:.80}, which are {declared} bytes, and '
      f'{held} follow'
    )
  return header


def read_members(
  content: bytes, declared: Mapping[str, Mapping[str, Any]] | None
) -> dict[str, np.ndarray]:
  """Returns the arrays of an npz file, by name.

  Args:
    content: of the file.
    declared: name -> the shape and dtype that it must have. Without, nothing is inflated beyond
      the length of the file.

  Raises:
    ValueError: for other arrays than declared, or as `read_header`.
    DAMAGE: for what is no npz file.
  """
  with zipfile.ZipFile(io.BytesIO(content)) as archive:
    members = {entry.filename.removesuffix('.npy'): entry for entry in archive.infolist()}
    if len(members) < len(archive.infolist()):
      raise ValueError('two arrays have one name')
    inflated = sum(entry.file_size for entry in members.values())
    if declared is None and inflated > len(content):
      raise ValueError(f'{len(content)} bytes would inflate to {inflated}')
    if declared is not None and set(members) != set(declared):
      raise ValueError(f'it holds {sorted(members)!r:.80}, not {sorted(declared)!r:.80}')
    for name, entry in members.items():
      with archive.open(entry) as member:
        header = read_header(member.read(HEADER_BYTES), entry.file_size, name)
      if declared is not None:
        check_declared(header, declared[name], name)
    return {name: _read(archive, entry) for name, entry in members.items()}


def check_declared(header: Header, declared: Mapping[str, Any], name: str) -> None:
  """Refuses an array of another shape or dtype than declared.

  Raises:
    ValueError: naming both.
  """
  if list(header.shape) != list(declared['shape']) or str(header.dtype) != declared['dtype']:
    raise ValueError(
      f'array {name!r} is {header.dtype} {list(header.shape)!r:.80}, declared '
      f'{declared["dtype"]!s:.20} {declared["shape"]!r:.80}'
    )


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
  with archive.open(entry) as member:
    array = np.lib.format.read_array(member, allow_pickle=False)
    member.read(1)  # to its end, where zipfile compares checksums
  return array
