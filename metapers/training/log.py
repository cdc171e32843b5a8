"""What a run says of itself while it runs: a progress bar, and metrics written one call late."""

import math
from collections.abc import Callable, Mapping

import jax
import numpy as np
import tqdm

from metapers.core.types import Metrics
from metapers.io.writers import MetricsWriter


class Log:
  """Takes the metrics of every compiled call and looks at them when the next one is under way.

  Args:
    name: of the learner.
    num_steps: of the whole run.
    step: that the run starts from.
    writer: makes the writer, given that step; None writes nothing.
    progress: show a bar.
  """

  def __init__(
    self,
    name: str,
    num_steps: int,
    step: int,
    writer: Callable[[int], MetricsWriter] | None,
    *,
    progress: bool,
  ):
    self.name, self.step = name, step
    self._pending: Metrics | None = None
    self._pending_step = step
    self._writer = writer(step) if writer else None
    self._bar = tqdm.tqdm(
      total=num_steps, initial=step, desc=name, unit='step', disable=not progress, leave=False
    )

  def push(self, step: int, metrics: Metrics) -> None:
    """Notes that `step` updates are under way, and looks at the call before."""
    self.flush()
    self.step, self._pending_step, self._pending = step, step, metrics

  def flush(self) -> None:
    """Waits for the call under way, checks its losses and writes its mean metrics.

    Raises:
      FloatingPointError: for a loss that is not finite, naming the learner and the step.
    """
    if self._pending is None:
      return
    fetched, self._pending = jax.device_get(self._pending), None
    bad = np.flatnonzero(~np.isfinite(fetched['loss']))
    if bad.size:
      first = self._pending_step - len(fetched['loss']) + int(bad[0])
      raise FloatingPointError(
        f'{self.name}: the loss of step {first} is {fetched["loss"][bad[0]]}; the last checkpoint '
        'is from before. Lower the learning rate, or look for extreme features'
      )
    means = {name: float(np.mean(values)) for name, values in fetched.items()}
    self.write(self._pending_step, means)
    self._bar.update(self._pending_step - self._bar.n)
    self._bar.set_postfix(loss=f'{means["loss"]:.3f}')

  def write(self, step: int, numbers: Mapping[str, float]) -> None:
    """Writes the finite ones of the numbers of a step; JSON knows no others."""
    if self._writer:
      finite = {name: value for name, value in numbers.items() if math.isfinite(value)}
      self._writer.write(step, finite)

  def close(self) -> None:
    """Ends the bar and closes the writer."""
    self._bar.close()
    if self._writer:
      self._writer.close()
