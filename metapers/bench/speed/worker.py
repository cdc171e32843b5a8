"""One implementation in a process of its own, which works when asked over a pipe and sleeps else.

    python -m metapers.bench.speed.worker IMPLEMENTATION DATA.npz '{"row": ...}'

Each line that comes in is answered by a line of JSON. Packages may print: they print on stderr.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any, TextIO

import numpy as np

from metapers.bench.speed import implementation, memory, workload
from metapers.bench.speed.implementation import Step
from metapers.bench.speed.workload import Case
from metapers.core.types import Callable

LEAST_SECONDS = 0.2  # of a round: short steps are repeated
CLOCKS = {'wall': time.perf_counter, 'process': time.process_time}


def main(argv: list[str]) -> None:
  """Runs the process: `prepare`, then any number of `round CLOCK`, until the pipe is closed."""
  answers = os.fdopen(os.dup(1), 'w')
  os.dup2(2, 1)
  name, path, described = argv
  given = json.loads(described)
  case = Case(**given | {'hidden': tuple(given['hidden'])})
  serve(name, case, path, sys.stdin, answers)


def serve(name: str, case: Case, path: str, requests: TextIO, answers: TextIO) -> None:
  """Answers requests until there are no more."""
  prepare, data = implementation.load(name), workload.read(path)
  before, step = memory.held(), None
  for line in requests:
    request, clock = line.split()
    if request == 'prepare':
      found, step = first(lambda: prepare(case, data), clock)
      memory.forget_most()
    else:
      assert step is not None
      found = one_round(step, clock) | {'peak_mib': memory.most() - before}
    print(json.dumps(found), file=answers, flush=True)


def first(prepare: Any, clock: str) -> tuple[dict[str, float], Step]:
  """Returns what the first step gives, the seconds until then, and the step."""
  now = CLOCKS[clock]
  start = now()
  made = prepare()
  step = quickest(made, now) if isinstance(made, tuple) else made
  loss, gradient = step()
  seconds = now() - start
  squares = sum(float(np.sum(np.square(leaf, dtype=np.float64))) for leaf in gradient.values())
  return {'compile_seconds': seconds, 'loss': loss, 'gradient_norm': squares**0.5}, step


def quickest(steps: Sequence[Step], now: Callable[[], float]) -> Step:
  """Returns the step whose second call takes the least time."""

  def seconds(step):
    step()
    start = now()
    step()
    return now() - start

  return min(steps, key=seconds)


def one_round(step: Step, clock: str) -> dict[str, float]:
  """Returns the seconds that a step takes, the least and the median of this round."""
  now, found = CLOCKS[clock], []
  while sum(found) < LEAST_SECONDS:
    start = now()
    step()
    found.append(now() - start)
  return {'least': min(found), 'median': statistics.median(found)}


if __name__ == '__main__':
  main(sys.argv[1:])
