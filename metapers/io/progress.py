"""What is shown on stderr of work under way: bars, and how long programs were compiled."""

import contextlib
import sys
from collections.abc import Callable, Collection, Iterator
from typing import TypeVar

import jax
import tqdm

from metapers.io import processes

Item = TypeVar('Item')
Span = tuple[float, float]  # seconds
COMPILATION = '/jax/core/compile/'  # how the events of jax begin that are part of it
LEAST_SECONDS = 0.1  # that are worth a line

_open: list[list[Span]] = []  # of each `compiling` under way, the innermost last


def bar(name: str, total: int, *, unit: str, initial: int = 0, shown: bool = True) -> tqdm.tqdm:
  """Returns a bar that leaves nothing behind; only process 0 shows one."""
  return tqdm.tqdm(
    total=total,
    initial=initial,
    desc=name,
    unit=unit,
    disable=not (shown and processes.is_first()),
    leave=False,
  )


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
