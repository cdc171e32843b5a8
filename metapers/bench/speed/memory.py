"""Memory of the process at hand, in MiB."""

import contextlib
import pathlib
import resource
import sys

STATUS = pathlib.Path('/proc/self/status')
CLEAR = pathlib.Path('/proc/self/clear_refs')
KIB = 1024


def held() -> float:
  """Returns what the process holds now; NaN where the system does not say."""
  return _field('VmRSS') if STATUS.exists() else float('nan')


def most() -> float:
  """Returns the most that it has held, since `forget_most` where that is possible."""
  if STATUS.exists():
    return _field('VmHWM')
  unit = KIB**2 if sys.platform == 'darwin' else KIB
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def forget_most() -> None:
  """Lets `most` begin anew: what compiling took is not what running takes."""
  with contextlib.suppress(OSError):  # another system: the most since the start stands
    CLEAR.write_text('5')


def _field(name: str) -> float:
  line = next(line for line in STATUS.read_text().splitlines() if line.startswith(name))
  return float(line.split()[1]) / KIB
