"""SIGTERM asks a run to stop: it saves at the next call boundary and exits with 143."""

import signal
import threading
from types import FrameType, TracebackType

from metapers.io import processes

EXIT_CODE = 128 + signal.SIGTERM


class Interruption:
  """A context in which SIGTERM is noted instead of ending the process.

  Handlers can be set in the main thread only; elsewhere nothing is noted.
  """

  def __init__(self):
    self._asked = False
    self._previous = None

  def __enter__(self) -> 'Interruption':
    if threading.current_thread() is threading.main_thread():
      self._previous = signal.signal(signal.SIGTERM, self._note)
    return self

  def __exit__(
    self,
    kind: type[BaseException] | None,
    error: BaseException | None,
    trace: TracebackType | None,
  ) -> None:
    if self._previous is not None:
      signal.signal(signal.SIGTERM, self._previous)

  def is_asked(self) -> bool:
    """Returns whether any process was asked to stop; all of them must call this."""
    return any(processes.gather(self._asked))

  def _note(self, number: int, frame: FrameType | None) -> None:
    del number, frame
    self._asked = True
