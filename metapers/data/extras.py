"""Packages that a part of the library needs alone, and the extra that brings them."""

import importlib.util
from collections.abc import Sequence

# As they are imported; in `setup.py` they are listed as they are installed.
MODELS = ('torch', 'safetensors')  # reward models and encoders
CONSTRUCTED = ('textstat', 'vaderSentiment')  # constructed rewards
SYNTAX = ('textblob',)  # parts of speech


def require(extra: str, packages: Sequence[str]) -> None:
  """Refuses to go on without some packages.

  Args:
    extra: of the install, that brings them.
    packages: by the names that they are imported by.

  Raises:
    ValueError: naming those that are missing, and how to install them.
  """
  missing = [name for name in packages if not is_installed(name)]
  if missing:
    raise ValueError(f"{', '.join(missing)} is needed: pip install 'metapers[{extra}]'")


def is_installed(name: str) -> bool:
  """Tells whether a package can be imported, without importing it."""
  try:
    return importlib.util.find_spec(name) is not None
  except ImportError:
    return False
