"""What is timed: the loss of a batch of users and its gradient, from the same arrays and start.

A case is written to a file once, and every implementation reads it: parameters by the dotted names
of the library's own, and comparisons without any that is masked.
"""

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from metapers import learners
from metapers.core.meta_learner import MetaLearner
from metapers.core.types import Callable
from metapers.io import leaves

PARAMETER = 'params.'  # before their names in the file
ALONE = 'alone'  # people of whom each is fitted alone, to comparisons of items of their own
PENALTY = 0.1  # on squared strengths of items
TYPICAL_NORM = 10.0**0.5  # of a candidate's features, however many


class Case(NamedTuple):
  """One row of the table at one size; `of` says which learner is meant.

  row: a key of ROWS. features: D. hidden: widths of hidden layers. users: T.
  support, query: comparisons of a user. inner_steps: of gradient descent.
  """

  row: str
  features: int
  hidden: tuple[int, ...] = (128, 128)
  users: int = 256
  support: int = 8
  query: int = 32
  inner_steps: int = 5


class Data(NamedTuple):
  """What every implementation is given, as NumPy arrays.

  params: by dotted name. support, query: features [T, N, 2, D]. support_choice, query_choice:
  [T, N], which of the two was chosen.
  """

  params: dict[str, np.ndarray]
  support: np.ndarray
  support_choice: np.ndarray
  query: np.ndarray
  query_choice: np.ndarray


def _maml(case: Case) -> dict[str, Any]:
  return {'hidden': case.hidden, 'inner_steps': case.inner_steps}


def _width(case: Case) -> dict[str, Any]:
  return {'hidden': case.hidden[0]}


def _layers(case: Case) -> dict[str, Any]:
  return {'hidden': case.hidden}


def _known_users(case: Case) -> dict[str, Any]:
  return {'num_users': case.users}


def _alone(case: Case) -> dict[str, Any]:
  # Strengths of items, which are the features, have the prior N(0, 1 / (2 PENALTY)).
  scale = (case.features / (2 * PENALTY)) ** 0.5
  return {'kernel': 'linear', 'output_scale': scale, 'learn_scales': False}


# row: learner, and its options.
ROWS: dict[str, tuple[str, Callable[[Case], dict[str, Any]]]] = {
  'maml': ('maml', _maml),
  'cnp': ('cnp', _width),
  'transformer_np': ('transformer_np', _width),
  'gaussian_head': ('bayes_head', _layers),
  'low_rank': ('lore', _known_users),
  ALONE: ('pairwise_gp', _alone),
}


SIZES = (10, 384, 4096)
LINEAR, SMALL, LARGE = (), (128, 128), (512, 512)
WIDTHS = {
  'maml': (LINEAR, SMALL, LARGE),
  'cnp': (SMALL, LARGE),
  'transformer_np': (SMALL,),
  'gaussian_head': (SMALL, LARGE),
  'low_rank': (LINEAR,),
}
CASES = (
  *(Case(row, size, hidden) for row in WIDTHS for size in SIZES for hidden in WIDTHS[row]),
  Case(ALONE, 16, LINEAR, query=1),
)


def sizes(hidden: Sequence[int]) -> str:
  """Returns the widths of hidden layers in a word: 128x128, or linear."""
  return 'x'.join(map(str, hidden)) or 'linear'


def name_of(case: Case) -> str:
  """Returns what a case is called: row/features/hidden."""
  return f'{case.row}/{case.features}/{sizes(case.hidden)}'


def chosen(names: Sequence[str]) -> list[Case]:
  """Returns the cases that a list names, as a whole or by how their names begin; all without any.

  Raises:
    ValueError: for what names none.
  """
  known = {name_of(case): case for case in CASES}
  found = {}
  for name in names or list(ROWS):
    own = [each for each in known if f'{each}/'.startswith(f'{name}/')]
    if not own:
      raise ValueError(f'no row {name!r}; known: {", ".join(known)}')
    found |= {each: known[each] for each in own}
  return list(found.values())


def learner_of(case: Case) -> MetaLearner:
  """Returns the learner of a case.

  Raises:
    ValueError: for an unknown row.
  """
  if case.row not in ROWS:
    raise ValueError(f'unknown row {case.row!r}; known: {", ".join(ROWS)}')
  name, options = ROWS[case.row]
  return learners.make(name, num_features=case.features, **options(case))


def make(case: Case, seed: int = 0) -> Data:
  """Returns parameters as the learner starts with them, and choices of random linear utilities."""
  random = np.random.default_rng(seed)
  scale = min(1.0, TYPICAL_NORM / case.features**0.5)
  taste = random.standard_normal((case.users, case.features), np.float32)

  def comparisons(count):
    if case.row == ALONE:
      return one_hot(case, count), random.integers(2, size=(case.users, count), dtype=np.int32)
    x = random.standard_normal((case.users, count, 2, case.features), np.float32)
    x *= np.float32(scale)
    utility = np.einsum('unkd,ud->unk', x, taste) + random.gumbel(size=x.shape[:-1])
    return x, utility.argmax(-1).astype(np.int32)

  params = learner_of(case).init(jax.random.key(seed))
  named = {name: np.asarray(leaf) for name, leaf in leaves.by_path(params).items()}
  return Data(named, *comparisons(case.support), *comparisons(case.query))


def one_hot(case: Case, count: int) -> np.ndarray:
  """Returns comparisons of the items 0 and 1, 2 and 3, ..., [T, N, 2, D], an item a feature."""
  items = np.eye(case.features, dtype=np.float32)[np.arange(2 * count) % case.features]
  return np.broadcast_to(items.reshape(count, 2, -1), (case.users, count, 2, case.features)).copy()


def write(path: str | os.PathLike, data: Data) -> None:
  """Writes the data of a case to an npz file."""
  params = {PARAMETER + name: value for name, value in data.params.items()}
  arrays = {name: value for name, value in data._asdict().items() if name != 'params'}
  with open(path, 'wb') as file:
    np.savez(file, **params, **arrays)


def read(path: str | os.PathLike) -> Data:
  """Returns the data of a case from its file."""
  with np.load(path) as file:
    arrays = dict(file)
  params = {
    name.removeprefix(PARAMETER): arrays.pop(name)
    for name in list(arrays)
    if name.startswith(PARAMETER)
  }
  return Data(params, **arrays)
