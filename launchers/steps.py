"""Commands one after the other, of which some follow whatever becomes of those before.

python -m launchers.steps '[["make", "it"], ...]'
"""

import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NamedTuple, NoReturn


class Step(NamedTuple):
  """One command.

  always: it follows a step that failed, or a signal, too. begins: those with `always` are needed
  only once it has succeeded, or was stopped halfway.
  """

  words: list[str]
  always: bool = False
  begins: bool = False


def as_text(steps: Sequence[Step]) -> str:
  """Returns steps as an argument of this module's command."""
  return json.dumps(steps)


def from_text(text: str) -> list[Step]:
  """Returns the steps that `as_text` wrote."""
  return [Step(*each) for each in json.loads(text)]


def run(steps: Sequence[Step]) -> int:
  """Runs steps; returns the exit code of the first that failed, 128 + its number after a signal."""
  code, begun = 0, not any(step.begins for step in steps)
  for step in steps:
    if code and not (step.always and begun):
      continue
    try:
      print(f'$ {shlex.join(step.words)}', flush=True)
      ended = subprocess.run(step.words, check=False).returncode
    except Stopped as stopped:
      ended = 128 + stopped.number
      begun |= step.begins  # what was asked for may be there, though nobody waited for it
    code = code or ended
    begun |= step.begins and not ended
  return code


class Stopped(Exception):
  """The process was asked to stop; `subprocess.run` ends its command before this goes on."""

  def __init__(self, number: int):
    super().__init__(f'stopped by {signal.Signals(number).name}')
    self.number = number


def _stop(number: int, frame: FrameType | None) -> NoReturn:
  del frame
  raise Stopped(number)


if __name__ == '__main__':
  for each in (signal.SIGINT, signal.SIGTERM):
    signal.signal(each, _stop)
  sys.exit(run(from_text(sys.argv[1])))
