"""Several processes that run one program: which of them writes, and what each has to say."""

import json
import os
import signal
import sys
from typing import Any, NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils


def is_first() -> bool:
  """Returns whether this is process 0, which alone writes files that are not orbax's."""
  return jax.process_index() == 0


def require_single(what: str) -> None:
  """Refuses several processes.

  Raises:
    ValueError: naming what is done by one process.
  """
  if jax.process_count() > 1:
    raise ValueError(
      f'{what} is made by one process, got {jax.process_count()}: start it without --distributed'
    )


def are_several() -> bool:
  """Returns whether there is more than this one; asks no device, unlike `jax.process_count`."""
  return jax.distributed.is_initialized()


def leave_to_first() -> None:
  """Ends all processes but the first, once they have no part in what is left to do.

  From then on SIGTERM ends it as it would end one alone: JAX noted it for steps to come.
  """
  if are_several():
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
  if not is_first():
    raise SystemExit(0)


def end(code: int) -> NoReturn:
  """Ends this process; of several without waiting for the others, which may be waiting for it."""
  if are_several():
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
  sys.exit(code)


def gather(value: Any) -> list[Any]:
  """Returns the JSON values of all processes, in their order; all of them must call this."""
  if jax.process_count() == 1:
    return [value]
  content = np.frombuffer(json.dumps(value).encode(), np.uint8)
  sizes = multihost_utils.process_allgather(np.array([content.size], np.int32)).ravel()
  padded = np.pad(content, (0, int(sizes.max()) - content.size))
  rows = np.asarray(multihost_utils.process_allgather(padded))
  return [json.loads(row[:size].tobytes()) for row, size in zip(rows, sizes, strict=True)]


def wait_for_all(where: str) -> None:
  """Waits until every process is here; `where` is a name of the place, the same in all."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(where)


def whole(array: jax.Array) -> np.ndarray:
  """Returns a global array on the host; where no process holds it whole, all must call this."""
  if array.is_fully_addressable or array.is_fully_replicated:
    return np.asarray(array)
  return np.asarray(multihost_utils.process_allgather(array, tiled=True))
