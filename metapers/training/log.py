"""What a run reports while it runs: a progress bar, and metrics written one call late."""

import contextlib
from collections.abc import Callable, Iterator, Mapping

import jax
import numpy as np

from metapers.core.types import Metrics
from metapers.io import processes
from metapers.io import progress as bars
from metapers.io.writers import MetricsWriter

WATCHED = ('loss', 'gradient_norm', 'parameter_norm')


class Log:
  """Takes the metrics of every compiled call and looks at them when the next one is under way.

  Args:
    name: of the learner.
    num_steps: of the whole run.
    resumed_step: that the run goes on from; None where it starts.
    writer: makes the writer, given that step; None writes nothing. Only process 0 writes.
    progress: show a bar, and lines on where the run goes on and what was compiled.
  """

  def __init__(
    self,
    name: str,
    num_steps: int,
    resumed_step: int | None,
    writer: Callable[[int | None], MetricsWriter] | None,
    *,
    progress: bool,
  ):
    self.name, self.step = name, resumed_step or 0
    self._pending: Metrics | None = None
    self._size = 0
    self._writer = writer(resumed_step) if writer and processes.is_first() else None
    self._bar = bars.bar(name, num_steps, unit='step', initial=self.step, shown=progress)
    self._shown = progress
    self._compiled: set[str] = set()
    if resumed_step is not None and resumed_step < num_steps:
      bars.say(f'{name}: goes on from step {resumed_step} of {num_steps}', shown=progress)

  @contextlib.contextmanager
  def compiling(self, what: str) -> Iterator[None]:
    """Says that a part of the run is being compiled, the first time, and then in how long."""
    if what in self._compiled:
      yield
      return
    self._compiled.add(what)
    self._bar.set_description(f'{self.name}: compiling {what}')
    with bars.compiling(f'{self.name}: {what}', shown=self._shown):
      yield
    self._bar.set_description(self.name)

  def push(self, size: int, metrics: Metrics) -> None:
    """Looks at the call before, now that one of `size` more steps is under way."""
    self.flush()
    self.step, self._size, self._pending = self.step + size, size, metrics

  def flush(self) -> None:
    """Waits for the call under way, checks its losses and writes its mean metrics.

    Raises:
      FloatingPointError: for a loss, a gradient or parameters that are not finite, naming learner
        and step.
    """
    if self._pending is None:
      return
    fetched, self._pending = jax.device_get(self._pending), None
    fetched = {name: values[: self._size] for name, values in fetched.items()}
    watched = {name: fetched[name] for name in WATCHED}
    finite = np.all([np.isfinite(values) for values in watched.values()], 0)
    if not finite.all():
      bad = int(np.argmin(finite))  # the first
      values = ', '.join(f'{name} {values[bad]}' for name, values in watched.items())
      raise FloatingPointError(
        f'{self.name}: step {self.step - self._size + bad} is not finite ({values}); the last '
        'checkpoint is of an earlier step. Lower the learning rate, or look for extreme features'
      )
    means = {name: float(np.mean(values)) for name, values in fetched.items()}
    self.write(means)
    self._bar.update(self._size)
    self._bar.set_postfix(loss=f'{means["loss"]:.3f}')

  def write(self, numbers: Mapping[str, float]) -> None:
    """Writes the numbers reached after `step`."""
    if self._writer:
      self._writer.write(self.step, numbers)

  def close(self) -> None:
    """Ends the bar and closes the writer."""
    self._bar.close()
    if self._writer:
      self._writer.close()
