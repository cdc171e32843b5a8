"""Implementations in turn, one process at a time: first compared, then timed in rounds."""

import contextlib
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from metapers.bench.speed import implementation, matmul, operations, workload
from metapers.bench.speed.implementation import MATMUL, OURS
from metapers.bench.speed.workload import Case

TOLERANCE = 1e-5  # relative, of the loss and of the gradient's norm


class Plan(NamedTuple):
  """How is timed. rounds: how often each takes its turn. clock: of `worker.CLOCKS`."""

  rounds: int = 5
  clock: str = 'wall'


class Worker:
  """A process of one implementation; a context, at whose end it is over."""

  def __init__(self, name: str, case: Case, path: pathlib.Path):
    self.name = name
    module = 'metapers.bench.speed.worker'
    described = json.dumps(case._asdict())
    command = [sys.executable, '-m', module, name, str(path), described]
    with contextlib.ExitStack() as stack:
      # What fails is told by its last line; warnings of packages are no one's concern.
      self._errors = stack.enter_context(tempfile.TemporaryFile('w+'))
      self._process = stack.enter_context(
        subprocess.Popen(
          command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True
        )
      )
      stack.callback(self._process.kill)
      self._open = stack.pop_all()

  def __enter__(self) -> 'Worker':
    return self

  def __exit__(self, *exception) -> None:
    self._open.close()

  def ask(self, request: str, clock: str) -> dict[str, float]:
    """Returns the answer to a request.

    Raises:
      ValueError: if the process ended, with what it said last.
    """
    requests, answers = self._process.stdin, self._process.stdout
    assert requests is not None and answers is not None
    with contextlib.suppress(BrokenPipeError):
      requests.write(f'{request} {clock}\n')
      requests.flush()
    line = answers.readline()
    if not line:
      self._errors.seek(0)
      said = self._errors.read().strip().splitlines()
      raise ValueError(f'{self.name} ended: {said[-1] if said else "it said nothing"}')
    return json.loads(line)


def time_case(case: Case, names: Sequence[str], plan: Plan) -> list[dict[str, Any]]:
  """Returns a row of `report.COLUMNS` for each implementation of a case.

  Args:
    case: what is timed.
    names: implementations, the library's own among them.
    plan: how.

  Raises:
    ValueError: where losses or gradients differ, or a process fails.
  """
  with contextlib.ExitStack() as stack:
    folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
    path = folder / 'data.npz'
    workload.write(path, workload.make(case))
    workers = [stack.enter_context(Worker(name, case, path)) for name in (*names, MATMUL)]
    firsts = {worker.name: worker.ask('prepare', plan.clock) for worker in workers}
    same = [name for name in names if implementation.named(name).is_same]
    check_equal({name: firsts[name] for name in same})
    turns = [
      {worker.name: worker.ask('round', plan.clock) for worker in workers}
      for _ in range(plan.rounds)
    ]
  peak = matmul.OPERATIONS / min(turn[MATMUL]['least'] for turn in turns)
  work = operations.of_user(case)
  return [
    row(case, name, firsts[name], [turn[name] for turn in turns], work / peak, plan.clock)
    for name in names
  ]


def check_equal(firsts: Mapping[str, Mapping[str, float]]) -> None:
  """Refuses implementations that do not compute the same.

  Raises:
    ValueError: naming the implementation and both numbers.
  """
  ours = firsts[OURS]
  for name, found in firsts.items():
    for what in ('loss', 'gradient_norm'):
      if not abs(found[what] - ours[what]) <= TOLERANCE * abs(ours[what]):
        raise ValueError(
          f'{name} has the {what} {found[what]:.8g}, and {OURS} {ours[what]:.8g}: they are not the '
          f'same to {TOLERANCE:g}, so that their times say nothing; mend {name}'
        )


def row(
  case: Case,
  name: str,
  first: Mapping[str, float],
  turns: Sequence[Mapping[str, float]],
  least_seconds: float,
  clock: str,
) -> dict[str, Any]:
  """Returns one row of `report.COLUMNS`.

  Args:
    case: what was timed.
    name: of the implementation.
    first: what the first step gave.
    turns: what each round gave.
    least_seconds: that a user's products take at the measured peak.
    clock: whose seconds.
  """
  least = min(turn['least'] for turn in turns)
  median = statistics.median(turn['median'] for turn in turns)
  return {
    'row': case.row,
    'features': case.features,
    'hidden': workload.sizes(case.hidden),
    'users': case.users,
    'clock': clock,
    'implementation': name,
    'users_per_second': case.users / least,
    'milliseconds_min': 1e3 * least,
    'milliseconds_median': 1e3 * median,
    'compile_seconds': first['compile_seconds'],
    'fraction_of_peak': least_seconds * case.users / least,
    'peak_mib': turns[-1]['peak_mib'],
    'loss': first['loss'],
    'gradient_norm': first['gradient_norm'],
  }


def available(names: Sequence[str], case: Case) -> list[str]:
  """Returns the implementations of a case, the library's own first, whose packages are here."""
  own = [name for name in names if case.row in implementation.named(name).rows]
  return [OURS, *(name for name in own if not implementation.missing(name))]
