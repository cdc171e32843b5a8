"""How large a profile may be."""

from collections.abc import Callable

import jax

from metapers.core.types import UserState
from metapers.serving.exports import Export

LARGEST_PROFILE = 2**28  # bytes


def check_profile(export: Export, capacity: int, state: Callable[[], UserState]) -> None:
  """Refuses a learner whose profiles would fill the memory, before any is taken.

  Args:
    export: the learner.
    capacity: comparisons kept of a user.
    state: makes the shapes of a user state; called only where comparisons alone are not too large.

  Raises:
    ValueError: naming the bytes and the options that they come from.
  """
  size = 2 * capacity * export.num_candidates * export.scaling.mean.size  # kept as float16
  if size <= LARGEST_PROFILE:
    size += sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state()))
  if size > LARGEST_PROFILE:
    raise ValueError(
      f'a profile would take {size} bytes or more, with capacity={capacity}, num_candidates='
      f'{export.num_candidates} and {dict(export.kwargs)}; the most is {LARGEST_PROFILE}'
    )
