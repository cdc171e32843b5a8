"""One person, or many along a leading axis U: functions of many, and who is meant."""

import jax
import numpy as np

from metapers.core.types import Any, Bool, Callable, PyTree


def for_one_or_many(function: Callable[[PyTree], PyTree], person: PyTree, many: int) -> PyTree:
  """Calls a function of people with a leading U, for one person (many = 0) without it."""
  if many:
    return function(person)
  return jax.tree.map(lambda x: x[0], function(jax.tree.map(lambda x: x[None], person)))


def some(wrong: Bool[np.ndarray, 'U']) -> str:
  """Names those of a batch for whom something is wrong, by index; a few if they are many."""
  index = np.flatnonzero(wrong)
  return ', '.join(map(str, index[:5])) + (', ...' if index.size > 5 else '')


def who(at: tuple[Any, ...]) -> str:
  """Begins a message of a person by their index in a batch: (u,), or () for one alone."""
  return f'person {at[0]}: ' if at else ''
