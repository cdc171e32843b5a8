"""What made a result: the code, and the packages that it computes with."""

import importlib.metadata
import pathlib
import platform
import subprocess

PACKAGES = ('metapers', 'jax', 'jaxlib', 'flax', 'optax', 'numpy')
ROOT = pathlib.Path(__file__).parents[2]


def versions() -> dict[str, str]:
  """Returns the versions of Python and of what is computed with, and the commit of a clone.

  A commit ends in `-dirty` where files of the clone differ from it.
  """
  found = {'python': platform.python_version()}
  found |= {name: importlib.metadata.version(name) for name in PACKAGES}
  commit = commit_of(ROOT)
  return found | ({'commit': commit} if commit else {})


def commit_of(clone: pathlib.Path) -> str:
  """Returns the commit of a clone; '' where the folder is none, or git is not here."""
  if not (clone / '.git').exists():
    return ''
  command = ['git', '-C', str(clone), 'describe', '--always', '--dirty', '--exclude=*']
  try:
    told = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
  except (OSError, subprocess.SubprocessError):
    return ''
  return told.stdout.strip()
