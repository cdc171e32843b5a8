"""Files that are either the old ones or the new ones, never a half."""

import os
import pathlib
import tempfile


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
