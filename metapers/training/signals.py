"""SIGTERM and Ctrl-C ask a run to stop: it saves at the next call boundary and ends."""

import signal
import threading
from types import FrameType, TracebackType
from typing import NoReturn

from metapers.io import processes


class Interruption:
  """A context in which SIGTERM and SIGINT are noted instead of ending the process.

  A second SIGINT ends it at once. Handlers can be set in the main thread only; elsewhere nothing is
  noted, nor is a signal that the process ignores.
  """

  def __init__(self):
    self._asked = 0
    self._previous = {}

  def __enter__(self) -> 'Interruption':
    if threading.current_thread() is threading.main_thread():
      for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) is not signal.SIG_IGN:
          self._previous[number] = signal.signal(number, self._note)
    return self

  def __exit__(
    self,
    kind: type[BaseException] | None,
    error: BaseException | None,
    trace: TracebackType | None,
  ) -> None:
    for number, handler in self._previous.items():
      signal.signal(number, handler)

  def asked(self) -> int:
    """Returns the signal by which any process was asked to stop, else 0; all must call this."""
    return max(processes.gather(self._asked))

  def _note(self, number: int, frame: FrameType | None) -> None:
    del frame
    if number == self._asked == signal.SIGINT:
      raise KeyboardInterrupt
    self._asked = int(number)


def end(number: int) -> NoReturn:
  """Ends the process as the signal would have.

  Raises:
    KeyboardInterrupt: for SIGINT.
    SystemExit: 128 + the number of any other signal.
  """
  if number == signal.SIGINT:
    raise KeyboardInterrupt
  raise SystemExit(128 + number)
