"""Where a run's numbers go: metrics.jsonl, and TensorBoard."""

import json
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from metapers.core import fields, files


class MetricsWriter:
  """Writes scalars by step to `metrics.jsonl` (one object a line) and to TensorBoard events.

  Args:
    workdir: the folder; made if missing.
    from_step: that a run resumes from; what an earlier process wrote of later steps is dropped, for
      it will be written again. None for a run that starts: all is dropped.
  """

  def __init__(self, workdir: str | os.PathLike, *, from_step: int | None = None):
    import tensorboardX  # not above: it loads torch where that is installed

    from_step = -1 if from_step is None else from_step
    path = pathlib.Path(workdir)
    path.mkdir(parents=True, exist_ok=True)
    _keep_until(path / 'metrics.jsonl', from_step)
    self._lines = (path / 'metrics.jsonl').open('a', encoding='utf-8')
    self._board = tensorboardX.SummaryWriter(
      str(path / 'tensorboard'), purge_step=from_step + 1, write_to_disk=True
    )

  def write(self, step: int, scalars: Mapping[str, float]) -> None:
    """Writes numbers reached after `step` updates.

    JSON has no word for NaN and infinities: they become null, and TensorBoard leaves them out.
    """
    finite = {name: value for name, value in scalars.items() if math.isfinite(value)}
    record = {'step': step, **dict.fromkeys(scalars), **finite}
    self._lines.write(json.dumps(record, allow_nan=False) + '\n')
    self._lines.flush()
    for name, value in finite.items():
      self._board.add_scalar(name, value, step)

  def close(self) -> None:
    """Flushes and closes both."""
    self._lines.close()
    self._board.close()


def read_metrics(workdir: str | os.PathLike) -> list[dict[str, Any]]:
  """Returns the rows of metrics.jsonl, where None is a number that was not finite.

  A last line that a crash cut short is left out.
  """
  path = pathlib.Path(workdir) / 'metrics.jsonl'
  if not path.exists():
    return []
  *whole, _ = files.read_bytes(path).split(b'\n')
  return [files.parse_json(line, f'{path}, line {i}') for i, line in enumerate(whole, 1)]


def _keep_until(path: pathlib.Path, step: int) -> None:
  found = read_metrics(path.parent)
  for number, record in enumerate(found, 1):
    fields.check(f'{path}, line {number}', record, {'step': int})
  kept = [record for record in found if record['step'] <= step]
  files.write_atomically(path, ''.join(json.dumps(record) + '\n' for record in kept))
