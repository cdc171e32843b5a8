"""Features as a caller gives them: arrays, or data frames, whose columns are matched by name."""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from metapers.core.types import Any, Float


@runtime_checkable
class DataFrame(Protocol):
  """A table with named columns, such as one of pandas or polars."""

  columns: Any


@runtime_checkable
class Row(Protocol):
  """One row of a table, with the names of its columns, such as a Series of pandas."""

  index: Any
  name: Any


Rows = Float[np.ndarray, '*N D'] | DataFrame | Row


def one_array(name: str, given: Any) -> np.ndarray:
  """Returns the array that is given, where serving reads one vector.

  Raises:
    ValueError: for a dict of arrays.
  """
  if isinstance(given, Mapping):
    raise ValueError(
      f'{name} of several arrays ({", ".join(map(str, given))}) are not served yet: serving reads '
      'one vector; concatenate them and train on that'
    )
  return np.asarray(given)


def names_of(features: Any) -> tuple[str, ...] | None:
  """Returns the names of the columns of a data frame, or of the entries of one of its rows."""
  if isinstance(features, DataFrame):
    return tuple(map(str, features.columns))
  return tuple(map(str, features.index)) if isinstance(features, Row) else None


def in_order(features: Any, expected: Sequence[str]) -> np.ndarray:
  """Returns features as an array; what has names in the order of those expected.

  Raises:
    ValueError: for names that are missing, repeated or not expected.
  """
  names = names_of(features)
  array = one_array('features', features)
  return array if names is None else array[..., places(names, expected)]


def places(names: Sequence[str], expected: Sequence[str]) -> list[int]:
  """Returns where each expected name stands among those given.

  Raises:
    ValueError: naming what is missing, repeated or not expected.
  """
  if not expected:
    raise ValueError(
      f'features have the names {", ".join(names)[:200] or "()"}, and there are none to match them '
      'with, for this model was trained on features without names: give a NumPy array with the '
      'columns in the order of training; of texts, rows of features.npy, or '
      'metapers.features_of(FOLDER, TEXTS) of new ones; of one-hot items, rows of numpy.eye'
    )
  missing = [name for name in expected if name not in names]
  others = [name for name in names if name not in expected or names.count(name) > 1]
  if missing or others:
    raise ValueError(
      f'features are matched by name: missing {missing[:5]}, not known or repeated {others[:5]}; '
      f'expected {", ".join(expected)[:200]}'
    )
  return [names.index(name) for name in expected]
