"""What is kept of a person, as arrays: their last comparisons and the user state."""

import operator
from typing import NamedTuple

import jax
import numpy as np

from metapers.core import batches
from metapers.core.types import Any, Bool, Float, Int, UserState

NOTHING = -1  # forgets nothing of that person of a batch
LARGEST_ID = 2**63 - 1  # of int64


class History(NamedTuple):
  """The comparisons kept of one person, oldest first, or of U people along a leading axis.

  The form is canonical: real comparisons first, zeros after them. So whatever was forgotten, or
  fell off the end, has left nothing behind.

  ids: given by the caller, each at least 0. choice: index into K of the preferred candidate.
  features: scaled as the learner sees them. shown: True where a candidate is real; a comparison
    of which none is real is padding. mask: tells comparisons from padding, so that
    `ids[mask]` are the ids of one person.
  """

  ids: Int[np.ndarray, '*U N']
  choice: Int[np.ndarray, '*U N']
  features: Float[np.ndarray, '*U N K D']
  shown: Bool[np.ndarray, '*U N K']

  @property
  def mask(self) -> Bool[np.ndarray, '*U N']:
    """True where a comparison is real."""
    return np.asarray(self.shown.any(-1))


class Profile(NamedTuple):
  """A person, or U people along a leading axis of every array.

  history: what they chose. user_state: what the learner makes of it. model: the fingerprint of the
  learner that made it, see `exports.fingerprint`.
  """

  history: History
  user_state: UserState
  model: str


def newest(history: History, size: int) -> History:
  """Keeps the last `size` real comparisons of each person, in order, padded to `size`."""
  real = history.mask
  from_end = np.flip(np.cumsum(np.flip(real, -1), -1), -1)  # 1 at the last real comparison
  keep = real & (from_end <= size)
  order = np.argsort(~keep, axis=-1, kind='stable')[..., :size]
  kept = np.take_along_axis(keep, order, -1)

  def gather(array):
    trailing = (1,) * (array.ndim - order.ndim)
    found = np.take_along_axis(array, order.reshape(*order.shape, *trailing), order.ndim - 1)
    found = np.where(kept.reshape(*kept.shape, *trailing), found, array.dtype.type(0))
    widths = [(0, 0)] * array.ndim
    widths[order.ndim - 1] = (0, size - order.shape[-1])
    return np.pad(found, widths)

  return History(*map(gather, history))


def next_ids(history: History, count: int) -> Int[np.ndarray, '*U N']:
  """Returns `count` ids for each person, counting on from the largest kept.

  Raises:
    ValueError: if there are no ids left.
  """
  largest = np.where(history.mask, history.ids, -1).max(-1, initial=-1)
  wrong = np.argwhere(largest > LARGEST_ID - count)
  if len(wrong):  # of one person it is [1, 0]
    at = tuple(wrong[0])
    raise ValueError(
      f'{batches.who(at)}no id follows {largest[at]}, the largest kept: ids end at 2**63 - 1; give '
      'ids of your own'
    )
  return largest[..., None] + 1 + np.arange(count)


def check_ids(ids: np.ndarray, shape: tuple[int, ...]) -> None:
  """Refuses ids that are none.

  Raises:
    ValueError: unless they are whole numbers from 0 up, one for each comparison.
  """
  got = f'{ids.dtype}{list(ids.shape)}'
  if ids.shape == shape and np.issubdtype(ids.dtype, np.integer):
    wrong = np.argwhere((ids < 0) | (ids > LARGEST_ID))
    if not wrong.size:
      return
    got = f'{ids[tuple(wrong[0])]} at {wrong[0].tolist()}'
  raise ValueError(f'ids must be {list(shape)} whole numbers from 0 up to 2**63 - 1, got {got}')


def check_distinct(history: History) -> None:
  """Refuses an id that one person has twice.

  Raises:
    ValueError: naming the person and the id.
  """
  padding = -1 - np.arange(history.ids.shape[-1])  # no two alike, and none an id
  ids = np.sort(np.where(history.mask, history.ids, padding), -1)
  repeated = np.argwhere(ids[..., 1:] == ids[..., :-1])
  if repeated.size:
    at = tuple(repeated[0])
    raise ValueError(
      f'{batches.who(at[:-1])}comparison {ids[at]} is there already; forget it first, or give '
      'another id'
    )


def append(history: History, new: History) -> History:
  """Puts comparisons behind those of the same people.

  Raises:
    ValueError: for an id that occurs twice with one person.
  """
  axis = history.ids.ndim - 1
  joined = History(*(np.concatenate(pair, axis) for pair in zip(history, new)))
  check_distinct(joined)
  return joined


def without(history: History, comparison_id: Any) -> History:
  """Takes one comparison of each person out.

  Args:
    history: of one or many.
    comparison_id: a whole number, or [U] of many people, of whom NOTHING forgets nothing.

  Raises:
    ValueError: for an id that a person does not have.
  """
  people, wanted = history.ids.shape[:-1], np.asarray(comparison_id)
  if wanted.shape not in ((), people) or not np.issubdtype(wanted.dtype, np.integer):
    many = f', or {list(people)} of them, {NOTHING} for nothing of that person' if people else ''
    raise ValueError(f'expected one id, a whole number{many}; got {comparison_id!r:.80}')
  wanted = np.broadcast_to(wanted, people)
  found = history.mask & (history.ids == wanted[..., None])
  missing = np.argwhere(~found.any(-1) & ((wanted != NOTHING) | (not people)))
  if len(missing):
    at = tuple(missing[0])
    ids = history.ids[at][history.mask[at]].tolist()
    raise ValueError(
      f'{batches.who(at)}there is no comparison {wanted[at]} to forget; kept are {ids or "none"} '
      '(older ones than the history holds are forgotten already)'
    )
  shown = history.shown & ~found[..., None]
  return newest(history._replace(shown=shown), history.ids.shape[-1])


def person(profiles: Profile, index: int | np.integer) -> Profile:
  """Returns one person out of many.

  Raises:
    ValueError: for a profile of one person, or an index beyond the last.
  """
  people = profiles.history.ids.shape[:-1]
  if not people:
    raise ValueError('this is the profile of one person already')
  number = operator.index(index)
  if not -people[0] <= number < people[0]:
    raise ValueError(f'there is no person {number} among {people[0]}, numbered from 0')
  history, state = jax.tree.map(lambda x: x[number], (profiles.history, profiles.user_state))
  return Profile(history, state, profiles.model)


def check_model(found: str, expected: str) -> None:
  """Makes sure that a profile belongs to the model at hand.

  Raises:
    ValueError: if it does not.
  """
  if found != expected:
    raise ValueError(
      f'the profile was made by model {found[:12]}, this is {expected[:12]}: load that model, or '
      'adapt anew: new.adapt(old.comparisons(profile))'
    )
