"""From comparisons to what is kept of a user: the last of them, and the learner's state."""

import functools

import numpy as np

from metapers.core.types import Any, Callable, Params, UserState
from metapers.serving import profiles
from metapers.serving import questions as serving
from metapers.serving.profiles import History
from metapers.serving.questions import Questions


def adapted(
  ask: Questions,
  params: Params,
  history_of: Callable[[Any], History],
  context: np.ndarray,
  *,
  longest: int,
  capacity: int,
) -> tuple[History, UserState]:
  """Returns what is kept of one user, or of many, whose comparisons are made a block at a time.

  Warns of users for whom adapting diverged, who count as new.

  Args:
    ask: functions of the learner.
    params: of the learner.
    history_of: slice of users -> their comparisons; of `...` all, or those of the one.
    context: [C] of one user, [U, C] of many.
    longest: the most comparisons that one of many users has.
    capacity: comparisons kept.

  Raises:
    ValueError: if a context alone gives no finite state, or as `history_of` does.
  """
  many = context.ndim - 1
  size = min(serving.power_of_two(longest), capacity) if many else capacity

  # Always anew, even where the learner has an `update`: that agrees with `adapt` to 1e-5 only, and
  # a profile would depend on the path to its comparisons, on forgotten ones among others.
  def some(rows: Any) -> tuple:
    kept = profiles.newest(history_of(rows), size)
    adapt = functools.partial(serving.adapt_users, ask, params)
    return kept, *serving.for_one_or_many(adapt, serving.support_of(kept, context[rows]), many)

  kept, state, diverged = serving.in_blocks(some, len(context)) if many else some(...)
  serving.warn_of(np.atleast_1d(diverged))
  return kept, state
