"""Shows how far jobs are: a table that is drawn anew on a terminal, lines of news elsewhere."""

import collections
import pathlib
import re
import shutil
import sys
import time
from collections.abc import Sequence
from typing import TextIO

from launchers import pool, records
from launchers.pool import Progress

EVERY = 0.5  # seconds between two drawings
TAIL = 4096  # bytes of a log in which its last lines are looked for
UP, CLEAR = '\x1b[{}A', '\x1b[J'
UNSEEN = re.compile(r'\x1b\[[0-9;]*[A-Za-z]|[^\S\n]+')  # colours and other orders to a terminal


def last_lines(path: pathlib.Path, count: int) -> list[str]:
  """Returns the last lines of a log that are not empty; [] where there is none."""
  if not path.exists():
    return []
  with path.open('rb') as file:
    file.seek(max(file.seek(0, 2) - TAIL, 0))
    text = file.read().decode(errors='replace').replace('\r', '\n')
  lines = [UNSEEN.sub(' ', line).rstrip() for line in text.split('\n')]
  return [line for line in lines if line][-count:]


def line_of(one: Progress) -> str:
  """Returns a line on one job: its name, its state, and since when."""
  again = f', attempt {one.attempt}' if one.attempt > 1 else ''
  code = f' with {one.code}' if one.state == pool.FAILED else ''
  seconds = f' {one.seconds:.0f} s' if one.attempt else ''
  return f'{one.job.name}  {one.state}{code}{seconds}{again}'


def summary(made: Sequence[Progress]) -> str:
  """Returns how many jobs there are of each state."""
  counts = collections.Counter(one.state for one in made)
  return ', '.join(f'{count} {state}' for state, count in counts.items()) + f', of {len(made)}'


class Board:
  """Shows jobs on a stream.

  Args:
    stream: a terminal, or a file or pipe.
  """

  def __init__(self, stream: TextIO = sys.stdout):
    self._stream, self._shown, self._drawn = stream, 0, 0.0
    self._known: dict[str, tuple[str, int]] = {}

  def show(self, made: Sequence[Progress]) -> None:
    """Shows how far jobs are, if there is news, or on a terminal if it is time."""
    news = [one for one in made if self._known.get(one.job.name) != (one.state, one.attempt)]
    self._known |= {one.job.name: (one.state, one.attempt) for one in news}
    if self._stream.isatty():
      if news or time.monotonic() - self._drawn > EVERY:
        self._draw(made)
      return
    for one in news:
      if one.state != pool.WAITING:
        self._stream.write(line_of(one) + '\n')
    self._stream.flush()

  def _draw(self, made: Sequence[Progress]) -> None:
    """Draws running jobs with the last line of their logs, and the counts of all."""
    width, height = shutil.get_terminal_size()
    running = [one for one in made if one.state == pool.RUNNING][: max(height - 2, 1)]
    lines = [summary(made)]
    for one in running:
      said = last_lines(records.log_of(one.job), 1)
      lines.append('  '.join([line_of(one), *said]))
    back = UP.format(self._shown) if self._shown else ''
    self._stream.write('\r' + back + CLEAR + ''.join(f'{line[: width - 1]}\n' for line in lines))
    self._stream.flush()
    self._shown, self._drawn = len(lines), time.monotonic()
