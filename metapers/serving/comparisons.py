"""Comparisons as a caller gives them, checked at the border and put into the form that is kept."""

from typing import NamedTuple

import numpy as np

from metapers.core.types import Any, Bool, Float, Int
from metapers.serving import profiles
from metapers.serving.exports import Export
from metapers.serving.profiles import History

LARGEST = 1000.0  # train standard deviations: more is another unit (and float16 ends at 65,504)

NUMBERS = 'biufV'  # kinds of numpy; bfloat16 is a V


class Comparisons(NamedTuple):
  """What one person chose, or U people along a leading axis of everything.

  features: [N, K, D] of the candidates, raw: the model scales them itself.
  choice: [N], index into K of the preferred candidate.
  ids: [N], whole numbers from 0 up, to forget by; None counts on from the largest kept, so that
    the number of what was forgotten may be given anew (a profile knows nothing of what it forgot).
    Whoever stores numbers elsewhere gives ids of their own.
  shown: [N, K], False where there is no candidate. A comparison without any is no comparison, so
    that people with fewer fit into one array. None: all are real.
  """

  features: Float[np.ndarray, '*U N K D']
  choice: Int[np.ndarray, '*U N']
  ids: Int[np.ndarray, '*U N'] | None = None
  shown: Bool[np.ndarray, '*U N K'] | None = None


def pairs(
  chosen: Float[np.ndarray, '*N D'],
  rejected: Float[np.ndarray, '*N D'],
  *,
  ids: int | Int[np.ndarray, '*N'] | None = None,
  mask: Bool[np.ndarray, '*N'] | None = None,
) -> Comparisons:
  """Makes comparisons of two, the chosen one first.

  Args:
    chosen: raw features: [D] of one comparison, [N, D] of one person, [U, N, D] of many; so a
      single click of each of U people is [U, 1, D].
    rejected: the same of what was not chosen.
    ids: one for each comparison, see `Comparisons`.
    mask: False where there is no comparison.

  Raises:
    ValueError: for other shapes.
  """
  chosen, rejected = np.asarray(chosen), np.asarray(rejected)
  if chosen.shape != rejected.shape or not 1 <= chosen.ndim <= 3:
    raise ValueError(
      'chosen and rejected must both be [D], [N, D] or [U, N, D], got shapes '
      f'{list(chosen.shape)} and {list(rejected.shape)}'
    )
  if not chosen.shape[-1]:
    raise ValueError('a candidate has no features; no comparisons are [0, D], or adapt() alone')
  features = np.stack([chosen, rejected], -2)
  features = features[None] if features.ndim == 2 else features
  size = features.shape[:-2]
  shown = None if mask is None else np.repeat(_of_size('mask', mask, size)[..., None], 2, -1)
  numbers = None if ids is None else _of_size('ids', ids, size)
  return Comparisons(features, np.zeros(size, np.int32), numbers, shown)


def people_of(given: Comparisons) -> tuple[int, ...]:
  """Returns (U,) for comparisons of many people, () for those of one.

  Raises:
    ValueError: for what is neither.
  """
  if not isinstance(given, Comparisons):
    raise ValueError(
      f'expected comparisons, got {type(given).__name__}: make them by '
      'personalizer.pairs(chosen, rejected), or Comparisons(features, choice)'
    )
  shape = np.shape(given.features)
  if len(shape) not in (3, 4):
    raise ValueError(
      f'expected features [N, K, D] of one person, or [U, N, K, D] of many, got {list(shape)}'
    )
  if len(shape) == 4 and not shape[0]:
    raise ValueError(
      f'there are no people: features are {list(shape)}; give at least one, [1, ...]'
    )
  return shape[:-3]


def as_asked(features: Any, people: tuple[int, ...], axes: str) -> np.ndarray:
  """Makes an array of what is asked of people, and refuses one without the axes it must have.

  Args:
    features: [*people, ..., *axes].
    people: (U,), or () for one person.
    axes: that must be there behind those of the people, such as 'R D'. The first of '*N D' may be
      missing with one person; with many it would be taken for the people by chance.

  Raises:
    ValueError: naming the shape expected.
  """
  given, needed = np.asarray(features), axes.replace('*', '').split()
  least = len(people) + len(needed) - (axes.startswith('*') and not people)
  if given.ndim >= least and given.shape[: len(people)] == people:
    return given
  who, share = 'one person', ''
  if people:
    who = f'{people[0]} people'
    share = f'; np.broadcast_to(x, ({people[0]}, *x.shape)) shows the same to all'
  raise ValueError(
    f'a profile of {who} needs features [{", ".join([*map(str, people), *needed])}], got shape '
    f'{list(given.shape)}{share}'
  )


def paired(a: np.ndarray, b: np.ndarray) -> np.ndarray:
  """Makes questions of two, [..., 2, D], of one array each.

  Raises:
    ValueError: for two shapes.
  """
  if a.shape != b.shape:
    raise ValueError(
      f'a and b must have one shape, got {list(a.shape)} and {list(b.shape)}; np.broadcast_to '
      'compares one with many'
    )
  return np.stack([a, b], -2)


def nothing(people: tuple[int, ...], export: Export) -> History:
  """Returns the history of people who have chosen nothing yet: N = 0."""
  size, width = export.num_candidates, export.scaling.mean.size
  return History(
    np.zeros((*people, 0), np.int64),
    np.zeros((*people, 0), np.int32),
    np.zeros((*people, 0, size, width), np.float16),
    np.zeros((*people, 0, size), bool),
  )


def as_history(given: Comparisons, kept: History, export: Export) -> History:
  """Checks comparisons, scales them, and puts them into the form of those kept.

  Raises:
    ValueError: naming what is wrong, and where.
  """
  people, most = kept.ids.shape[:-1], export.num_candidates
  fits = people_of(given) == people
  features, choice = np.asarray(given.features), np.asarray(given.choice)
  if not fits or not 2 <= features.shape[-2] <= most:
    raise ValueError(
      f'expected features [{", ".join([*map(str, people), "N", "K", "D"])}] with 2 to {most} '
      f'candidates K, got {list(features.shape)}'
      + ('; a click of each is pairs of [U, 1, D]' if people else '')
    )
  size = features.shape[:-1]
  shown = np.ones(size, bool) if given.shown is None else np.asarray(given.shown, bool)
  ids = profiles.next_ids(kept, features.shape[-3]) if given.ids is None else np.asarray(given.ids)
  scaled = scale(features, shown, export)
  check_choices(choice, shown)
  profiles.check_ids(ids, choice.shape)
  wider = [(0, 0)] * choice.ndim + [(0, most - features.shape[-2])]
  return History(
    ids.astype(np.int64),
    choice.astype(np.int32),
    np.pad(scaled, [*wider, (0, 0)]).astype(np.float16),
    np.pad(shown, wider),
  )


def check_choices(choice: np.ndarray, shown: Bool[np.ndarray, '*N K']) -> None:
  """Refuses choices of what was not shown.

  Raises:
    ValueError: naming the first that is wrong.
  """
  if choice.shape != shown.shape[:-1] or not np.issubdtype(choice.dtype, np.integer):
    raise ValueError(
      f'choice must be {list(shown.shape[:-1])} indices of candidates, got '
      f'{choice.dtype}{list(choice.shape)}'
    )
  picked = shown & (np.arange(shown.shape[-1]) == choice[..., None])
  wrong = np.argwhere(shown.any(-1) & ~(picked.any(-1) & (shown.sum(-1) > 1)))
  if wrong.size:
    at = tuple(wrong[0].tolist())
    raise ValueError(
      f'comparison {list(at)} chose {choice[at]} of candidates shown={shown[at].tolist()}; the '
      'choice must be shown and have a rival, or leave the comparison out (shown all False)'
    )


def scale(
  features: Float[np.ndarray, '*N D'], shown: Bool[np.ndarray, '*N'], export: Export
) -> Float[np.ndarray, '*N D']:
  """Scales raw features as in training; zeros where nothing is shown.

  Raises:
    ValueError: for another width, what is no number, NaN, or numbers far from all of training.
  """
  if features.dtype.kind not in NUMBERS:
    raise ValueError(f'features must be numbers, got dtype {features.dtype}')
  mean, spread = export.scaling
  names = export.feature_names or tuple(str(index) for index in range(mean.size))
  if features.shape != (*shown.shape, mean.size):
    raise ValueError(
      f'a candidate has {mean.size} features ({", ".join(names)[:200]}); got shape '
      f'{list(features.shape)}, and {list(shown.shape)} of who is shown'
    )
  scaled = np.where(shown[..., None], (features - mean) / spread, 0).astype(np.float32)
  wrong = np.argwhere(~(np.abs(scaled) <= LARGEST))
  if wrong.size:
    *at, column = wrong[0].tolist()
    raise ValueError(
      f'feature {names[column]!r} at {at} is {features[(*at, column)]}, where training saw '
      f'{mean[column]:.4g} ± {spread[column]:.2g}: give it in that unit, or leave the candidate out'
    )
  return scaled


def as_given(history: History, export: Export) -> Comparisons:
  """Undoes `as_history`, up to the precision of what is kept."""
  mean, spread = export.scaling
  raw = np.where(history.shown[..., None], history.features * spread + mean, 0)
  return Comparisons(raw, history.choice, history.ids, history.shown)


def _of_size(name: str, given: Any, size: tuple[int, ...]) -> np.ndarray:
  """Shapes what is given for each comparison; axes of one entry may be missing, or be too many."""
  array = np.asarray(given)
  if [n for n in array.shape if n != 1] != [n for n in size if n != 1]:
    raise ValueError(
      f'{name} must be {list(size)}, one for each comparison, got {list(array.shape)}'
    )
  return array.reshape(size)
