"""What is shown on stderr of work under way: bars, and how long programs were compiled.

Where stderr is no terminal (a file, a CI's log) a bar is a line when it begins and then one every
EVERY seconds, without carriage returns and movements of the cursor.
"""

import contextlib
import sys
import time
from collections.abc import Callable, Collection, Iterator
from typing import TypeVar

import jax
import tqdm

from metapers.io import processes

Item = TypeVar('Item')
Span = tuple[float, float]  # seconds
COMPILATION = '/jax/core/compile/'  # how the events of jax begin that are part of it
LEAST_SECONDS = 0.1  # that are worth a line
EVERY = 30.0  # seconds between lines of a bar where there is no terminal
LINE = '{desc}: {n_fmt}/{total_fmt} {unit}s [{elapsed}<{remaining}, {rate_fmt}{postfix}]'

_open: list[list[Span]] = []  # of each `compiling` under way, the innermost last


def bar(name: str, total: int, *, unit: str, initial: int = 0, shown: bool = True) -> tqdm.tqdm:
  """Returns a bar that leaves nothing behind on a terminal; only process 0 shows one."""
  is_terminal = sys.stderr.isatty()
  return (tqdm.tqdm if is_terminal else _Lines)(
    total=total,
    initial=initial,
    desc=name,
    unit=unit,
    disable=not (shown and processes.is_first()),
    leave=False,
    bar_format=None if is_terminal else LINE,
  )


class _Lines(tqdm.tqdm):
  """A bar as lines, few of them."""

  _said_at = float('-inf')

  def display(self, msg: str | None = None, pos: int | None = None) -> None:
    """Writes a line if the last one is old enough; nothing where tqdm would wipe one out."""
    del pos
    now = time.monotonic()
    if msg is None and self.total and now - self._said_at >= EVERY:
      self._said_at = now
      self.fp.write(f'{self}\n')
      self.fp.flush()

  def clear(self, nolock: bool = False) -> None:
    """Wipes out nothing: lines stay."""
    del nolock


def along(
  items: Collection[Item],
  name: str,
  *,
  unit: str,
  label: Callable[[Item], str] = str,
  shown: bool = True,
) -> Iterator[Item]:
  """Yields items under a bar that shows the label of the one in work."""
  with bar(name, len(items), unit=unit, shown=shown) as made:
    for item in items:
      made.set_postfix_str(label(item))
      yield item
      made.update()


def say(line: str, *, shown: bool = True) -> None:
  """Writes a line above the bars."""
  if shown and processes.is_first():
    tqdm.tqdm.write(line, file=sys.stderr)


@contextlib.contextmanager
def compiling(name: str, *, shown: bool = True) -> Iterator[None]:
  """Says at the end how many seconds programs were compiled, if they were.

  What is compiled under a `compiling` within counts there alone.
  """
  spans: list[Span] = []

  def listen(event: str, start_time: float, end_time: float, **kwargs: str | int) -> None:
    del kwargs
    if event.startswith(COMPILATION) and _open[-1] is spans:
      spans.append((start_time, end_time))

  jax.monitoring.register_event_time_span_listener(listen)
  _open.append(spans)
  try:
    yield
  finally:
    _open.remove(spans)
    jax.monitoring.unregister_event_time_span_listener(listen)
    seconds = covered(spans)
    say(f'{name}: compiled in {seconds:.1f} s', shown=shown and seconds >= LEAST_SECONDS)


def covered(spans: Collection[Span]) -> float:
  """Returns the length of the union of spans, which may lie in each other."""
  total, reached = 0.0, float('-inf')
  for start, end in sorted(spans):
    total += max(0.0, end - max(start, reached))
    reached = max(reached, end)
  return total
