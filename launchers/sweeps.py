"""Sweeps: which values the options of a command take, job by job.

A point is what one job overrides, name -> value as text; a sweep is a tuple of points. The
combinators below make sweeps, on the command line or in a file of one's own:

    def longer():
      tried = sweeps.grid({'learner': ['cnp'], 'training.num_steps': [2000, 8000]})
      return sweeps.cross(sweeps.chain(tried, sweeps.grid({'learner': ['maml']})), sweeps.seeds(3))
"""

import importlib.util
import itertools
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

Point = dict[str, str]
Sweep = tuple[Point, ...]
Values = Mapping[str, Iterable[Any]]
FORMS = (
  'grid:NAME=A,B;NAME=C,D, zip:NAME=A,B;NAME=C,D or seeds:COUNT, several joined by " + ", or '
  'FILE.py:FUNCTION'
)


def text_of(value: Any) -> str:
  """Returns a value as a flag takes it: several divided by commas, truth as true or false."""
  if isinstance(value, bool):
    return str(value).lower()
  if isinstance(value, list | tuple):
    return ','.join(map(text_of, value))
  return str(value)


def grid(values: Values) -> Sweep:
  """Returns every combination of the values of several names; the last name changes fastest.

  Args:
    values: name -> its values; a value may be several, for an option that takes several.
  """
  return tuple(
    dict(zip(values, map(text_of, chosen), strict=True))
    for chosen in itertools.product(*values.values())
  )


def zipped(values: Values) -> Sweep:
  """Returns the first values of all names, the second ones, and so on.

  Args:
    values: name -> its values, equally many of each.

  Raises:
    ValueError: for names with more values than others.
  """
  held = {name: list(own) for name, own in values.items()}
  sizes = {name: len(own) for name, own in held.items()}
  if len(set(sizes.values())) > 1:
    raise ValueError(f'zip needs equally many values of each name, got {sizes}')
  return tuple(
    dict(zip(held, map(text_of, chosen), strict=True))
    for chosen in zip(*held.values(), strict=True)
  )


def chain(*sweeps: Iterable[Mapping[str, Any]]) -> Sweep:
  """Returns the points of the first sweep, then those of the second, and so on; each once."""
  found: list[Point] = []
  for point in itertools.chain(*sweeps):
    made = {name: text_of(value) for name, value in point.items()}
    if made not in found:
      found.append(made)
  return tuple(found)


def cross(*sweeps: Sweep) -> Sweep:
  """Returns every combination of a point of each sweep.

  Raises:
    ValueError: for a name that two sweeps give values to.
  """
  for first, second in itertools.combinations(sweeps, 2):
    if both := sorted({*itertools.chain(*first)} & {*itertools.chain(*second)}):
      raise ValueError(f'two sweeps give values to {", ".join(both)}; name it in one of them')
  return tuple(
    {name: value for point in points for name, value in point.items()}
    for points in itertools.product(*sweeps)
  )


def seeds(count: int, first: int = 0) -> Sweep:
  """Returns `count` seeds of training, from `first` on."""
  return grid({'seed': range(first, first + count)})


COMBINATORS: dict[str, Callable[[Values], Sweep]] = {'grid': grid, 'zip': zipped}


def parse(text: str) -> Sweep:
  """Returns the sweep that a command line gives, in one of FORMS.

  Raises:
    ValueError: for another form.
  """
  if text.partition(':')[0].endswith('.py'):
    return load(text)
  return chain(*(literal(part.strip()) for part in text.split(' + ')))


def literal(text: str) -> Sweep:
  """Returns the sweep of one of the forms without a file.

  Raises:
    ValueError: for another form.
  """
  kind, _, rest = text.partition(':')
  if kind == 'seeds' and rest.isdigit():
    return seeds(int(rest))
  parts = [part.partition('=') for part in rest.split(';')]
  if kind not in COMBINATORS or not all(name and values for name, _, values in parts):
    raise ValueError(f'no sweep is written as {text!r}; give {FORMS}')
  names = [name.strip() for name, _, _ in parts]
  if len(set(names)) < len(names):
    raise ValueError(f'{text!r} names an option twice; give all of its values at once')
  return COMBINATORS[kind](
    {name.strip(): [value.strip() for value in values.split(',')] for name, _, values in parts}
  )


def load(place: str) -> Sweep:
  """Returns what a function in a file returns, which takes no arguments.

  Args:
    place: 'path/to/file.py:function'.

  Raises:
    ValueError: for a file or function that there is not, or one that returns no points.
  """
  path, _, name = place.rpartition(':')
  spec = importlib.util.spec_from_file_location(pathlib.Path(path).stem, path) if path else None
  if spec is None or spec.loader is None or not pathlib.Path(path).is_file():
    raise ValueError(f'no sweep in {place!r}; give FILE.py:FUNCTION')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  function = vars(module).get(name)
  if not callable(function):
    raise ValueError(f'{path} has no function {name!r}')
  points: Any = function()
  try:
    return chain(points)
  except (AttributeError, TypeError) as error:
    raise ValueError(f'{place} must return points such as those of `grid`: {error}') from error
