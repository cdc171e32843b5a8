"""SIGTERM and Ctrl-C ask a run to stop: it saves at the next call boundary and ends.

Of several processes each may be asked, at any moment; JAX's service finds a step at which all are.
"""

import signal
import threading
from types import FrameType, TracebackType
from typing import NoReturn

import jax
from jax.experimental import multihost_utils


class Interruption:
  """A context in which SIGTERM and SIGINT are noted instead of ending the process.

  A second SIGINT ends it at once. Handlers can be set in the main thread only; elsewhere nothing is
  noted, nor is a signal that the process ignores. Of several processes JAX notes SIGTERM, from
  `jax.distributed.initialize` on, and passes it to all others; SIGINT is passed on as one.

  Args:
    step: that the run begins with.
  """

  def __init__(self, step: int):
    self._step = step
    self._asked = 0
    self._previous = {}
    self._is_shared = jax.distributed.is_initialized()

  def __enter__(self) -> 'Interruption':
    if threading.current_thread() is threading.main_thread():
      for number in (signal.SIGINT,) if self._is_shared else (signal.SIGTERM, signal.SIGINT):
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

  def asked(self, step: int) -> int:
    """Returns the signal by which any process was asked to stop, else 0; all must call this.

    Args:
      step: that the run has reached.
    """
    if not self._is_shared:
      return self._asked
    since, self._step = self._step, step
    # Every step: the service settles on the one after the last that any process asked about.
    reached = [multihost_utils.reached_preemption_sync_point(i) for i in range(since + 1, step + 1)]
    return (self._asked or signal.SIGTERM) if any(reached) else 0

  def _note(self, number: int, frame: FrameType | None) -> None:
    del frame
    if number == self._asked == signal.SIGINT:
      raise KeyboardInterrupt
    self._asked = int(number)
    if self._is_shared:
      signal.raise_signal(signal.SIGTERM)


def end(number: int) -> NoReturn:
  """Ends the process as the signal would have.

  Raises:
    KeyboardInterrupt: for SIGINT.
    SystemExit: 128 + the number of any other signal.
  """
  if number == signal.SIGINT:
    raise KeyboardInterrupt
  raise SystemExit(128 + number)
