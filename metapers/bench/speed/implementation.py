"""What implements a step, by name, and the packages that it needs."""

import importlib
from typing import NamedTuple

import numpy as np

from metapers.bench.speed.workload import ALONE, ROWS
from metapers.core.types import Callable
from metapers.data import extras

# One step: the mean loss of all users, and its gradient by the dotted names of parameters.
Step = Callable[[], tuple[float, dict[str, np.ndarray]]]

OURS = 'metapers'
MATMUL = 'matmul'  # no implementation of anything, but timed beside them
TASK_LOOPS = ('maml',)
STEPS = tuple(row for row in ROWS if row != ALONE)


class Implementation(NamedTuple):
  """An implementation, imported in the process that is timed and nowhere else.

  module: with a function `prepare(case, data)`, which gives a step, or several ways to it, of which
  the quickest is timed. packages: by the names of their imports. rows: that it has. is_same:
  whether it computes what the library does; of another model only the time can be compared.
  """

  module: str
  packages: tuple[str, ...] = ()
  rows: tuple[str, ...] = STEPS
  is_same: bool = True


IMPLEMENTATIONS = {
  OURS: Implementation('metapers.bench.speed.ours'),
  MATMUL: Implementation('metapers.bench.speed.matmul', (), ()),
  'torch.func': Implementation('metapers.bench.speed.torch_func', ('torch',)),
  'higher': Implementation('metapers.bench.speed.higher_loop', ('torch', 'higher'), TASK_LOOPS),
  'torchopt': Implementation(
    'metapers.bench.speed.torchopt_loop', ('torch', 'torchopt'), TASK_LOOPS
  ),
  'choix': Implementation('metapers.bench.speed.choix_loop', ('choix',), (ALONE,)),
  'botorch': Implementation(
    'metapers.bench.speed.botorch_loop', ('torch', 'botorch'), (ALONE,), is_same=False
  ),
  'lore': Implementation('metapers.bench.speed.lore_loop', ('torch',), ('low_rank',)),
}


PEERS = tuple(name for name in IMPLEMENTATIONS if name not in (OURS, MATMUL))


def named(name: str) -> Implementation:
  """Returns an implementation.

  Raises:
    ValueError: for an unknown name.
  """
  if name not in IMPLEMENTATIONS:
    raise ValueError(f'unknown implementation {name!r}; known: {", ".join(IMPLEMENTATIONS)}')
  return IMPLEMENTATIONS[name]


def missing(name: str) -> list[str]:
  """Returns the packages that an implementation lacks here."""
  return [package for package in named(name).packages if not extras.is_installed(package)]


def load(name: str) -> Callable[..., Step]:
  """Returns the function `(case, data) -> Step` of an implementation, importing it."""
  return importlib.import_module(named(name).module).prepare
