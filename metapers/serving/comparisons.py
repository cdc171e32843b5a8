"""Comparisons and contexts as a caller gives them, checked at the border, as the form kept."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from metapers.core.types import Any, Bool, Float, Int
from metapers.serving import answers, columns, profiles
from metapers.serving import confidence as confidences
from metapers.serving.columns import Rows
from metapers.serving.exports import Export
from metapers.serving.profiles import History

LARGEST = 1000.0  # train standard deviations: more is another unit (and float16 ends at 65,504)


class Comparisons(NamedTuple):
  """What one user chose, or U users along a leading axis of everything.

  features: [N, K, D] of the candidates, raw: the model scales them itself.
  choice: [N], index into K of the preferred candidate.
  ids: [N], whole numbers from 0 up, to forget by; None counts on from the largest kept, so that
    the number of what was forgotten may be given anew (a profile knows nothing of what it forgot).
    Whoever stores numbers elsewhere gives ids of their own.
  shown: [N, K], False where there is no candidate. A comparison without any is no comparison, so
    that users with fewer fit into one array. None: all are real.
  weight: [N], how often each counts, from 0 up; 2 is the comparison twice. None: each counts once.
  names: of the D features, matched with those of training. None: they are in that order.
  outcome: [N], what was answered of two candidates: 0 that `choice` is preferred, n for
    `core.outcomes.KINDS[n - 1]`. None: nothing but a choice could be answered.
  """

  features: Float[np.ndarray, '*U N K D']
  choice: Int[np.ndarray, '*U N']
  ids: Int[np.ndarray, '*U N'] | None = None
  shown: Bool[np.ndarray, '*U N K'] | None = None
  weight: Float[np.ndarray, '*U N'] | None = None
  names: tuple[str, ...] | None = None
  outcome: Int[np.ndarray, '*U N'] | None = None

  def of(self, users: Any) -> 'Comparisons':
    """Returns the comparisons of some of many users; what is of other users stays as it is."""
    count = np.shape(self.features)[0]

    def some(given: Any) -> Any:
      return np.asarray(given)[users] if np.shape(given)[:1] == (count,) else given

    names = ('features', 'choice', 'ids', 'shown', 'weight', 'outcome')
    return self._replace(**{name: some(getattr(self, name)) for name in names})

  def num_real(self) -> Int[np.ndarray, '*U']:
    """Returns how many comparisons each user has, at most where `shown` has another shape."""
    size = np.shape(self.features)[:-2]
    if self.shown is None or np.shape(self.shown)[:-1] != size:
      return np.full(size[:-1], size[-1])
    return np.asarray(np.asarray(self.shown, bool).any(-1).sum(-1))


def pairs(
  chosen: Rows,
  rejected: Rows,
  *,
  ids: int | Int[np.ndarray, '*N'] | None = None,
  mask: Bool[np.ndarray, '*N'] | None = None,
  weight: float | Float[np.ndarray, '*N'] | None = None,
  outcome: str | Sequence[Any] | np.ndarray | None = None,
  confidence: float | Sequence[Any] | np.ndarray | None = None,
) -> Comparisons:
  """Returns comparisons of two candidates, the chosen one first.

  Args:
    chosen: raw features: [D] of one comparison, [N, D] of one user, [U, N, D] of many; so a single
      click of each of U users is [U, 1, D]. Columns of a data frame are matched by name.
    rejected: the same of what was not chosen.
    ids: one for each comparison, see `Comparisons`.
    mask: False where there is no comparison.
    weight: how often each comparison counts; None counts each once.
    outcome: what was answered, by name: 'chosen', 'strong' (the first is much better), 'tie' or
      'both_bad', in which case neither is preferred. None: people had to choose.
    confidence: the chance that the choice is the one made on reflection, .5 (nothing is said) to 1
      (as without it). It multiplies the weight by (2c - 1)², which approximates the likelihood of
      flips; see `serving.confidence`.

  Raises:
    ValueError: for other shapes, an unknown outcome, or a confidence that cannot be.
  """
  features = _both(chosen, rejected)
  size = features.shape[:-2]
  shown = None if mask is None else np.repeat(_of_size('mask', mask, size)[..., None], 2, -1)
  numbers = None if ids is None else _of_size('ids', ids, size)
  weights = None if weight is None else _of_size('weight', weight, size)
  answered = None if outcome is None else answers.coded(_of_size('outcome', outcome, size))
  if confidence is not None:
    sure = _of_size('confidence', confidence, size)
    real = np.ones(size, bool) if shown is None else shown[..., 0].astype(bool)
    weights = confidences.weights(sure, weights, real, answered)
  names, choice = columns.names_of(chosen), np.zeros(size, np.int32)
  return Comparisons(features, choice, numbers, shown, weights, names, answered)


def users_of(given: Comparisons) -> tuple[int, ...]:
  """Returns (U,) for comparisons of many users, () for those of one.

  Raises:
    ValueError: for what is neither.
  """
  if not isinstance(given, Comparisons):
    raise ValueError(
      f'expected comparisons, got {type(given).__name__}: make them by pairs(chosen, rejected), or '
      'Comparisons(features, choice)'
    )
  shape = columns.one_array('features', given.features).shape
  if len(shape) not in (3, 4):
    raise ValueError(
      f'expected features [N, K, D] of one user, or [U, N, K, D] of many, got {list(shape)}'
    )
  if len(shape) == 4 and not shape[0]:
    raise ValueError(f'there are no users: features are {list(shape)}; give at least one, [1, ...]')
  return shape[:-3]


def as_query(features: Any, users: tuple[int, ...], axes: str) -> np.ndarray:
  """Returns an array of what is to be predicted, with all the axes that it must have.

  Args:
    features: [*users, ..., *axes].
    users: (U,), or () for one user.
    axes: that must be there behind those of the users, such as 'R D'. The first of '*N D' may be
      missing with one user; with many it would be taken for the users by chance.

  Raises:
    ValueError: naming the shape expected.
  """
  given, needed = columns.one_array('features', features), axes.replace('*', '').split()
  least = len(users) + len(needed) - (axes.startswith('*') and not users)
  if given.ndim >= least and given.shape[: len(users)] == users:
    return given
  owner, share = 'one user', ''
  if users:
    owner = f'{users[0]} users'
    share = f'; np.broadcast_to(x, ({users[0]}, *x.shape)) shows the same to all'
  raise ValueError(
    f'a profile of {owner} needs features [{_sizes(*users, *needed)}], got shape '
    f'{list(given.shape)}{share}'
  )


def paired(a: np.ndarray, b: np.ndarray) -> np.ndarray:
  """Returns comparisons of two candidates, [..., 2, D], of one array each.

  Raises:
    ValueError: for two shapes.
  """
  if a.shape != b.shape:
    raise ValueError(
      f'a and b must have one shape, got {list(a.shape)} and {list(b.shape)}; np.broadcast_to '
      'compares one with many'
    )
  return np.stack([a, b], -2)


def as_context(given: Any, users: tuple[int, ...], export: Export) -> Float[np.ndarray, '*U C']:
  """Returns the context that a learner reads besides the comparisons.

  Args:
    given: [C] of one user, [U, C] of many; None where the learner reads none.
    users: (U,), or () for one user.
    export: of the learner.

  Raises:
    ValueError: for another width, a context that is missing, not numeric or not finite.
  """
  width = export.num_context
  expected = (*users, width)
  if given is None and not width:
    return np.zeros(expected, np.float32)
  if given is None:
    raise ValueError(
      f'{export.learner} reads a context of {width} numbers: give context=[{_sizes(*expected)}]'
    )
  context = columns.one_array('contexts', given)
  if context.shape != expected or context.dtype.kind not in profiles.NUMBERS:
    reads = f'reads a context of {width} numbers' if width else 'reads no context'
    raise ValueError(
      f'{export.learner} {reads}: expected context [{_sizes(*expected)}], got '
      f'{context.dtype}{list(context.shape)}'
    )
  wrong = np.argwhere(~(np.abs(context) <= np.finfo(np.float32).max))
  if wrong.size:
    at = tuple(wrong[0].tolist())
    raise ValueError(f'context at {list(at)} is {context[at]}; give a finite number')
  return context.astype(np.float32)


def empty_history(users: tuple[int, ...], export: Export) -> History:
  """Returns the history of users who have chosen nothing yet: N = 0."""
  size, width = export.num_candidates, export.scaling.mean.size
  return History(
    np.zeros((*users, 0), np.int64),
    np.zeros((*users, 0), np.int32),
    np.zeros((*users, 0, size, width), np.float16),
    np.zeros((*users, 0, size), bool),
    np.zeros((*users, 0), np.float32),
  )


def check_shape(given: Comparisons, kept: History, export: Export) -> None:
  """Refuses comparisons of other users than those that some are kept of, or of too many candidates.

  Raises:
    ValueError: naming the shape expected.
  """
  users, most = kept.ids.shape[:-1], export.num_candidates
  if users_of(given) != users or not 2 <= np.shape(given.features)[-2] <= most:
    raise ValueError(
      f'expected features [{_sizes(*users, "N", "K", "D")}] with 2 to {most} candidates K, got '
      f'{list(np.shape(given.features))}'
      + ('; a click of each is pairs of [U, 1, D]' if users else '')
    )


def as_history(given: Comparisons, kept: History, export: Export) -> History:
  """Returns comparisons checked, scaled, and in the form of those kept.

  Raises:
    ValueError: naming what is wrong, and where.
  """
  features, choice = np.asarray(given.features), np.asarray(given.choice)
  if given.names is not None:
    features = features[..., columns.places(given.names, export.item_names)]
  size = features.shape[:-1]
  shown = np.ones(size, bool) if given.shown is None else np.asarray(given.shown, bool)
  scaled = scale(features, shown, export)
  profiles.check_choices(choice, shown)
  check_different(features, choice, shown)
  if given.outcome is not None:
    scaled, shown, choice = answers.expanded(
      scaled, shown, choice, np.asarray(given.outcome), export
    )
  ids = profiles.next_ids(kept, features.shape[-3]) if given.ids is None else np.asarray(given.ids)
  profiles.check_ids(ids, choice.shape)
  wider = [(0, 0)] * choice.ndim + [(0, export.num_candidates - scaled.shape[-2])]
  return History(
    ids.astype(np.int64),
    choice.astype(np.int32),
    np.pad(scaled, [*wider, (0, 0)]).astype(np.float16),
    np.pad(shown, wider),
    _as_weight(given.weight, np.asarray(shown.any(-1))),
  )


def check_different(
  features: Float[np.ndarray, '*N K D'],
  choice: Int[np.ndarray, '*N'],
  shown: Bool[np.ndarray, '*N K'],
) -> None:
  """Refuses a choice between equals: it says nothing, and a learner would read something.

  Raises:
    ValueError: naming the first comparison.
  """
  chosen = np.take_along_axis(features, choice[..., None, None], -2)
  equal = ((features == chosen).all(-1) & shown).sum(-1) > 1
  if equal.any():
    at = np.argwhere(equal)[0].tolist()
    raise ValueError(
      f'comparison {at} was chosen among candidates with the same features; leave it out'
    )


def scale(
  features: Float[np.ndarray, '*N D'], shown: Bool[np.ndarray, '*N'], export: Export
) -> Float[np.ndarray, '*N D1']:
  """Returns raw features scaled as in training, with flags; zeros where nothing is shown.

  Raises:
    ValueError: for another width, what is not numeric, NaN, or numbers far from all of training.
  """
  if features.dtype.kind not in profiles.NUMBERS:
    raise ValueError(f'features must be numbers, got dtype {features.dtype}')
  mean, spread = (np.asarray(part, np.float64) for part in export.scaling)
  if features.shape[-1] == mean.size - len(export.outcomes):  # plain candidates: flags of 0
    features = np.pad(features, [(0, 0)] * (features.ndim - 1) + [(0, len(export.outcomes))])
  names = export.feature_names or tuple(str(index) for index in range(mean.size))
  if features.shape != (*shown.shape, mean.size):
    raise ValueError(
      f'a candidate has {mean.size} features ({", ".join(names)[:200]}); got shape '
      f'{list(features.shape)}, and a mask of candidates {list(shown.shape)}'
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


def as_comparisons(history: History, export: Export) -> Comparisons:
  """Returns what `as_history` was given, up to the precision of what is kept."""
  mean, spread = export.scaling
  raw = np.where(history.shown[..., None], history.features * spread + mean, 0)
  names, kinds = export.item_names or None, export.outcomes
  if not kinds:
    return Comparisons(raw, history.choice, history.ids, history.shown, history.weight, names)
  # Of an answer its two texts: what is made of them, and the flags, depend on the scaling.
  texts, shown = raw[..., :2, : raw.shape[-1] - len(kinds)], history.shown[..., :2]
  choice, outcome = answers.given(history.choice, kinds)
  return Comparisons(texts, choice, history.ids, shown, history.weight, names, outcome)


def _both(chosen: Rows, rejected: Rows) -> Float[np.ndarray, '*U N 2 D']:
  """Returns features of pairs, the chosen candidate first."""
  names = columns.names_of(chosen)
  if names is not None or columns.names_of(rejected) is not None:
    rejected = columns.in_order(rejected, names or ())
  chosen, rejected = columns.one_array('features', chosen), columns.one_array('features', rejected)
  if chosen.shape != rejected.shape or not 1 <= chosen.ndim <= 3:
    raise ValueError(
      'chosen and rejected must both be [D], [N, D] or [U, N, D], got shapes '
      f'{list(chosen.shape)} and {list(rejected.shape)}'
    )
  if not chosen.shape[-1]:
    raise ValueError('a candidate has no features; no comparisons are [0, D], or adapt() alone')
  features = np.stack([chosen, rejected], -2)
  return features[None] if features.ndim == 2 else features


def _as_weight(given: Any, mask: Bool[np.ndarray, '*N']) -> Float[np.ndarray, '*N']:
  if given is None:
    return mask.astype(np.float32)
  weight = np.asarray(given)
  profiles.check_weights(weight, mask)
  return np.where(mask, weight, 0).astype(np.float32)


def _of_size(name: str, given: Any, size: tuple[int, ...]) -> np.ndarray:
  """Shapes what is given for each comparison; axes of one entry may be missing, or be too many."""
  array = np.asarray(given)
  if [n for n in array.shape if n != 1] != [n for n in size if n != 1]:
    raise ValueError(
      f'{name} must be {list(size)}, one for each comparison, got {list(array.shape)}'
    )
  return array.reshape(size)


def _sizes(*axes: int | str) -> str:
  return ', '.join(map(str, axes))
