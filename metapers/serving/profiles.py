"""What is kept of a user, as arrays and as one file: their last comparisons and the user state."""

import json
import operator
import os
import pathlib
from typing import NamedTuple

import jax
import numpy as np

from metapers.core import array_files, files
from metapers.core.types import Any, Bool, Float, Int, UserState
from metapers.io import leaves

NOTHING = -1  # forgets nothing of that user of a batch
LARGEST_ID = 2**63 - 1  # of int64
NUMBERS = 'biufV'  # kinds of numpy; bfloat16 is a V
FORMAT, VERSION = 'metapers-profile', 3  # 3: with the weights of comparisons and a context
HEADER, CONTEXT, STATE = 'header', 'context', 'state.'


class History(NamedTuple):
  """The comparisons kept of one user, oldest first, or of U users along a leading axis.

  The form is canonical: real comparisons first, zeros after them. So whatever was forgotten, or
  fell off the end, has left nothing behind.

  ids: given by the caller, each at least 0.
  choice: index into K of the preferred candidate.
  features: scaled as the learner reads them.
  shown: True where a candidate is real; a comparison of which none is real is padding.
  weight: how often a comparison counts.
  """

  ids: Int[np.ndarray, '*U N']
  choice: Int[np.ndarray, '*U N']
  features: Float[np.ndarray, '*U N K D']
  shown: Bool[np.ndarray, '*U N K']
  weight: Float[np.ndarray, '*U N']

  @property
  def mask(self) -> Bool[np.ndarray, '*U N']:
    """True where a comparison is real: `ids[mask]` are the ids of one user."""
    return np.asarray(self.shown.any(-1))

  def of(self, users: Any) -> 'History':
    """Returns the comparisons of some of many users; of `...` those of all, or of the one."""
    return History(*(array[users] for array in self))


class Profile(NamedTuple):
  """A user, or U users along a leading axis of every array.

  history: what they chose.
  context: [*U, C], what the learner reads besides; C = 0 where it reads nothing else.
  user_state: what the learner makes of both.
  model: fingerprint of the learner that made it, see `exports.fingerprint`.
  """

  history: History
  context: Float[np.ndarray, '*U C']
  user_state: UserState
  model: str

  def __repr__(self) -> str:
    if not isinstance(self.history, History) or not isinstance(self.history.shown, np.ndarray):
      return tuple.__repr__(self)  # a tree of something else, such as shapes
    held = self.history.mask.sum(-1)
    each = f' ({held.min()} to {held.max()} each)' if held.ndim else ''
    return (
      f'Profile({f"{held.size} people" if held.ndim else "one person"}, {held.sum()} comparisons '
      f'held{each}, {self.history.features.shape[-1]} features, of model {self.model[:12]})'
    )


def newest(history: History, size: int) -> History:
  """Returns the last `size` real comparisons of each user, in order, padded to `size`."""
  real = history.mask
  from_end = np.flip(np.cumsum(np.flip(real, -1), -1), -1)  # 1 at the last real comparison
  keep = real & (from_end <= size)
  order = np.argsort(~keep, axis=-1, kind='stable')[..., :size]
  kept = np.take_along_axis(keep, order, -1)

  def gather(array):
    *users, count = order.shape
    trailing = array.shape[order.ndim :]
    index = (..., *(None,) * len(trailing))
    found = np.zeros((*users, size, *trailing), array.dtype)
    rows = found[(*(slice(None),) * len(users), slice(count))]
    picked = np.take_along_axis(array, order[index], len(users))
    np.copyto(rows, picked, where=kept[index])
    return found

  return History(*map(gather, history))


def next_ids(history: History, count: int) -> Int[np.ndarray, '*U N']:
  """Returns `count` ids for each user, counting on from the largest kept.

  Raises:
    ValueError: if there are no ids left.
  """
  largest = np.where(history.mask, history.ids, -1).max(-1, initial=-1)
  wrong = np.argwhere(largest > LARGEST_ID - count)
  if len(wrong):  # of one user it is [1, 0]
    at = tuple(wrong[0])
    raise ValueError(
      f'{_named(at)}no id follows {largest[at]}, the largest kept: ids end at 2**63 - 1; give ids '
      'of your own'
    )
  return largest[..., None] + 1 + np.arange(count)


def check_ids(ids: np.ndarray, shape: tuple[int, ...]) -> None:
  """Refuses what is not an id for each comparison.

  Raises:
    ValueError: unless they are whole numbers from 0 up, of the shape given.
  """
  got = f'{ids.dtype}{list(ids.shape)}'
  if ids.shape == shape and np.issubdtype(ids.dtype, np.integer):
    wrong = np.argwhere((ids < 0) | (ids > LARGEST_ID))
    if not wrong.size:
      return
    got = f'{ids[tuple(wrong[0])]} at {wrong[0].tolist()}'
  raise ValueError(f'ids must be {list(shape)} whole numbers from 0 up to 2**63 - 1, got {got}')


def check_distinct(history: History) -> None:
  """Refuses an id that one user has twice.

  Raises:
    ValueError: naming the user and the id.
  """
  padding = -1 - np.arange(history.ids.shape[-1])  # no two alike, and none an id
  ids = np.sort(np.where(history.mask, history.ids, padding), -1)
  repeated = np.argwhere(ids[..., 1:] == ids[..., :-1])
  if repeated.size:
    at = tuple(repeated[0])
    raise ValueError(
      f'{_named(at[:-1])}comparison {ids[at]} is there already; forget it first, or give another id'
    )


def check_choices(choice: np.ndarray, shown: Bool[np.ndarray, '*N K']) -> None:
  """Refuses choices of candidates that were not shown.

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


def check_weights(weight: np.ndarray, mask: Bool[np.ndarray, '*N']) -> None:
  """Refuses weights of real comparisons that are NaN, negative or infinite.

  Raises:
    ValueError: naming the first that is wrong.
  """
  if weight.shape != mask.shape or weight.dtype.kind not in NUMBERS:
    raise ValueError(
      f'weight must be {list(mask.shape)} numbers, one for each comparison, got '
      f'{weight.dtype}{list(weight.shape)}'
    )
  # What float32 cannot hold would be infinite where it is kept.
  wrong = np.argwhere(mask & ~((weight >= 0) & (weight <= np.finfo(np.float32).max)))
  if wrong.size:
    at = tuple(wrong[0].tolist())
    raise ValueError(
      f'weight of comparison {list(at)} is {weight[at]}; expected how often it counts: a finite '
      'number from 0 up, 1 for once'
    )


def append(history: History, new: History) -> History:
  """Returns comparisons with those of the same users put behind them.

  Raises:
    ValueError: for an id that occurs twice with one user.
  """
  axis = history.ids.ndim - 1
  joined = History(*(np.concatenate(pair, axis) for pair in zip(history, new)))
  check_distinct(joined)
  return joined


def without(history: History, comparison_id: Any) -> History:
  """Returns what is left when one comparison of each user is masked; `newest` takes it out.

  Args:
    history: of one or many.
    comparison_id: a whole number, or [U] of many users, of whom NOTHING forgets nothing.

  Raises:
    ValueError: for an id that a user does not have.
  """
  users, wanted = history.ids.shape[:-1], np.asarray(comparison_id)
  if wanted.shape not in ((), users) or not np.issubdtype(wanted.dtype, np.integer):
    many = f', or {list(users)} of them, {NOTHING} for nothing of that user' if users else ''
    raise ValueError(f'expected one id, a whole number{many}; got {comparison_id!r:.80}')
  wanted = np.broadcast_to(wanted, users)
  found = history.mask & (history.ids == wanted[..., None])
  missing = np.argwhere(~found.any(-1) & ((wanted != NOTHING) | (not users)))
  if len(missing):
    at = tuple(missing[0])
    ids = history.ids[at][history.mask[at]].tolist()
    raise ValueError(
      f'{_named(at)}there is no comparison {wanted[at]} to forget; kept are {ids or "none"} '
      '(older ones than the history holds are forgotten already)'
    )
  return history._replace(shown=history.shown & ~found[..., None])


def one_of(profiles: Profile, index: int | np.integer) -> Profile:
  """Returns the profile of one user out of those of many.

  Raises:
    ValueError: for a profile of one user, or an index beyond the last.
  """
  users = profiles.history.ids.shape[:-1]
  if not users:
    raise ValueError('this is the profile of one user already')
  number = operator.index(index)
  if not -users[0] <= number < users[0]:
    raise ValueError(f'there is no user {number} among {users[0]}, numbered from 0')
  kept = (profiles.history, profiles.context, profiles.user_state)
  history, context, state = jax.tree.map(lambda x: x[number], kept)
  return Profile(history, context, state, profiles.model)


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


def to_bytes(profile: Profile) -> bytes:
  """Returns a profile as an npz file without pickles, with a JSON header."""
  arrays = _arrays(profile)
  header = {'format': FORMAT, 'version': VERSION, 'model': profile.model, 'sha256': _sha256(arrays)}
  described = np.frombuffer(json.dumps(header).encode(), np.uint8)
  return array_files.packed({HEADER: described, **arrays})


def from_bytes(content: bytes, like: Profile) -> Profile:
  """Returns the profile that a file holds.

  Args:
    content: what `to_bytes` made.
    like: any profile of one user of the model that it must have been made by.

  Raises:
    ValueError: for bytes that are no profile, damaged or edited, and for a profile of another
      version or model.
  """
  arrays = array_files.unpacked('the profile', content)
  header = _header(arrays)
  if header.get('version') != VERSION:
    raise ValueError(
      f'the profile has version {header.get("version")!r}; this code reads {VERSION}: use the '
      'metapers that wrote it, or adapt to the comparisons anew'
    )
  check_model(str(header.get('model')), like.model)
  profile = _profile(arrays, like)
  if unknown := sorted(set(arrays) - {HEADER, *_arrays(profile)}):
    raise ValueError(f'the profile holds {unknown!r:.80} besides; restore it from a copy')
  try:
    check_profile(profile)
  except ValueError as error:
    raise ValueError(f'the profile was edited ({error}); restore it from a copy') from error
  if _sha256(_arrays(profile)) != header.get('sha256'):
    raise ValueError(
      'the comparisons or the state of the profile are not those that it was written with (another '
      'sha256); restore it from a copy, or adapt anew'
    )
  return profile


def check_profile(profile: Profile) -> None:
  """Refuses what no model has made.

  Raises:
    ValueError: naming what is not finite, not chosen of what was shown, not an id, not a weight, or
      misplaced.
  """
  for name, array in _arrays(profile).items():
    if not np.isfinite(array).all():
      raise ValueError(f'{name} is not finite at {np.argwhere(~np.isfinite(array))[0].tolist()}')
  history = profile.history
  check_choices(history.choice, history.shown)
  check_ids(history.ids, history.ids.shape)
  check_distinct(history)
  check_weights(history.weight, history.mask)
  canonical = newest(history, history.ids.shape[-1])
  for name, array, wanted in zip(History._fields, history, canonical):
    if not np.array_equal(array, wanted):
      raise ValueError(f'{name}: something stands where no comparison is')


def read_profile(path: str | os.PathLike, like: Profile) -> Profile:
  """Returns the profile in a file; see `from_bytes`.

  Raises:
    FileNotFoundError: if there is no file.
    ValueError: for something else than a file, or as `from_bytes`.
  """
  if not pathlib.Path(path).exists():
    raise FileNotFoundError(f'there is no profile {path}')
  content = files.read_bytes(path)
  try:
    return from_bytes(content, like)
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from error


def write_profile(profile: Profile, path: str | os.PathLike) -> pathlib.Path:
  """Writes a profile to a file, atomically, and returns the path."""
  return files.write_atomically(path, to_bytes(profile))


def _arrays(profile: Profile) -> dict[str, np.ndarray]:
  state = {STATE + name: array for name, array in leaves.named(profile.user_state).items()}
  return {**profile.history._asdict(), CONTEXT: profile.context, **state}


def _sha256(arrays: dict[str, np.ndarray]) -> str:
  return files.sha256(json.dumps(leaves.checksums(arrays)).encode())


def _header(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
  try:
    header = files.parse_json(arrays.get(HEADER, np.zeros(0, np.uint8)).tobytes(), 'the header')
  except ValueError as error:
    raise ValueError(f'this is no {FORMAT}: {error}') from error
  if header.get('format') != FORMAT:
    raise ValueError(f'this is no {FORMAT}')
  return header


def _profile(arrays: dict[str, np.ndarray], like: Profile) -> Profile:
  expected = {**like.history._asdict(), CONTEXT: like.context}
  missing = sorted(set(expected) - set(arrays))
  if missing:
    raise ValueError(f'the profile lacks {", ".join(missing)}; restore it from a copy')
  shape = arrays['ids'].shape
  for name, wanted in expected.items():
    rows, letters = (shape[:-1], []) if name == CONTEXT else (shape, ['N'])
    trailing = wanted.shape[len(letters) :]
    array = arrays[name]
    if array.shape != (*rows, *trailing) or array.dtype != wanted.dtype or not shape:
      raise ValueError(
        f'{name} of the profile is {array.dtype}{list(array.shape)} for ids {list(shape)}, where '
        f'this model has {wanted.dtype}{[*letters, *trailing]}; restore it from a copy'
      )
  users = shape[:-1]
  if len(users) > 1 or 0 in users:
    raise ValueError(f'the profile is of {list(users)} users; expected one, or [U] of them')
  history = History(*(arrays[name] for name in History._fields))
  return Profile(history, arrays[CONTEXT], _state(arrays, users, like.user_state), like.model)


def _state(arrays: dict[str, np.ndarray], users: tuple[int, ...], like: UserState) -> UserState:
  shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct((*users, *x.shape), x.dtype), like)
  stored = {
    name.removeprefix(STATE): array for name, array in arrays.items() if name.startswith(STATE)
  }
  return jax.tree.map(np.asarray, leaves.rebuild(stored, shapes))


def _named(at: tuple[Any, ...]) -> str:
  """Begins a message by the index of a user in a batch: (u,), or () for one alone."""
  return f'user {at[0]}: ' if at else ''
