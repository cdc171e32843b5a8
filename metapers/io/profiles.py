"""What is kept of a person: their last comparisons and the user state, as arrays and as a file."""

import json
import os
import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np

from metapers.core import files
from metapers.core.types import Bool, Float, Int, UserState
from metapers.io import exports, leaves

FORMAT, VERSION = 'metapers-profile', 1
HEADER, STATE = 'header', 'state.'


class History(NamedTuple):
  """The comparisons kept of one person, oldest first, or of U people along a leading axis.

  The form is canonical: real comparisons first, zeros after them. So whatever was forgotten, or
  fell off the end, has left nothing behind.

  ids: given by the caller, each at least 0. choice: index into K of the preferred candidate.
  features: scaled as the learner sees them. shown: True where a candidate is real; a comparison
    of which none is real is padding.
  """

  ids: Int[np.ndarray, '*U N']
  choice: Int[np.ndarray, '*U N']
  features: Float[np.ndarray, '*U N K D']
  shown: Bool[np.ndarray, '*U N K']


class Profile(NamedTuple):
  """A person, or U people along a leading axis of every array.

  history: what they chose. user_state: what the learner makes of it. model: the fingerprint of the
  learner that made it, see `exports.fingerprint`.
  """

  history: History
  user_state: UserState
  model: str


def is_real(history: History) -> Bool[np.ndarray, '*U N']:
  """Tells comparisons from padding."""
  return np.asarray(history.shown.any(-1))


def newest(history: History, size: int) -> History:
  """Keeps the last `size` real comparisons of each person, in order, padded to `size`."""
  real = is_real(history)
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
  """Returns `count` ids for each person, counting on from the largest kept."""
  largest = np.where(is_real(history), history.ids, -1).max(-1, initial=-1)
  return largest[..., None] + 1 + np.arange(count)


def check_ids(ids: np.ndarray, shape: tuple[int, ...]) -> None:
  """Refuses ids that are none.

  Raises:
    ValueError: unless they are whole numbers from 0 up, one for each comparison.
  """
  if ids.shape != shape or not np.issubdtype(ids.dtype, np.integer) or np.any(ids < 0):
    raise ValueError(
      f'ids must be {list(shape)} whole numbers from 0 up, got {ids.dtype}{list(ids.shape)}'
    )


def append(history: History, new: History) -> History:
  """Puts comparisons behind those of the same people.

  Raises:
    ValueError: for an id that occurs twice with one person.
  """
  axis = history.ids.ndim - 1
  joined = History(*(np.concatenate(pair, axis) for pair in zip(history, new)))
  padding = -1 - np.arange(joined.ids.shape[-1])  # no two alike, and none an id
  ids = np.sort(np.where(is_real(joined), joined.ids, padding), -1)
  repeated = ids[..., 1:][ids[..., 1:] == ids[..., :-1]]
  if repeated.size:
    raise ValueError(
      f'comparison {repeated[0]} is there already; forget it first, or give another id'
    )
  return joined


def without(history: History, comparison_id: Int[np.ndarray, '*U']) -> History:
  """Takes one comparison of each person out.

  Raises:
    ValueError: for an id that a person does not have.
  """
  found = is_real(history) & (history.ids == comparison_id[..., None])
  missing = np.argwhere(~found.any(-1))
  if missing.size or not found.any():
    person = tuple(missing[0])
    ids = history.ids[person][is_real(history)[person]].tolist()
    raise ValueError(
      f'there is no comparison {comparison_id[person]} to forget; kept are {ids or "none"} '
      '(older ones than the history holds are forgotten already)'
    )
  shown = history.shown & ~found[..., None]
  return newest(history._replace(shown=shown), history.ids.shape[-1])


def person(profiles: Profile, index: int) -> Profile:
  """Returns one person out of many."""
  history, state = jax.tree.map(lambda x: x[index], (profiles.history, profiles.user_state))
  return Profile(history, state, profiles.model)


def to_bytes(profile: Profile) -> bytes:
  """Packs a profile: an npz file without pickles, with a JSON header."""
  header = {'format': FORMAT, 'version': VERSION, 'model': profile.model}
  state = {STATE + name: array for name, array in leaves.named(profile.user_state).items()}
  described = np.frombuffer(json.dumps(header).encode(), np.uint8)
  return exports.packed({HEADER: described, **profile.history._asdict(), **state})


def from_bytes(content: bytes, like: Profile) -> Profile:
  """Unpacks a profile.

  Args:
    content: what `to_bytes` made.
    like: any profile of one person of the model that it must have been made by.

  Raises:
    ValueError: for bytes that are no profile or damaged, and for one of another version or model.
  """
  arrays = exports.unpacked('the profile', content)
  header = _header(arrays)
  if header.get('version') != VERSION:
    raise ValueError(
      f'the profile has version {header.get("version")!r}; this code reads {VERSION}: use the '
      'metapers that wrote it, or adapt to the comparisons anew'
    )
  check_model(str(header.get('model')), like.model)
  history = _history(arrays, like.history)
  people = history.ids.shape[:-1]
  shapes = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct((*people, *x.shape), x.dtype), like.user_state
  )
  stored = {
    name.removeprefix(STATE): array for name, array in arrays.items() if name.startswith(STATE)
  }
  return Profile(history, jax.tree.map(np.asarray, exports.rebuild(stored, shapes)), like.model)


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


def save(profile: Profile, path: str | os.PathLike) -> pathlib.Path:
  """Writes a profile to a file, atomically, and returns the path."""
  return files.write_atomically(path, to_bytes(profile))


def _header(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
  try:
    header = json.loads(arrays.get(HEADER, np.zeros(0, np.uint8)).tobytes())
  except ValueError as error:
    raise ValueError(f'this is no profile: {error}') from error
  if not isinstance(header, dict) or header.get('format') != FORMAT:
    raise ValueError(f'this is no {FORMAT}')
  return header


def _history(arrays: dict[str, np.ndarray], like: History) -> History:
  missing = sorted(set(History._fields) - set(arrays))
  if missing:
    raise ValueError(f'the profile lacks {", ".join(missing)}; restore it from a copy')
  history = History(*(arrays[name] for name in History._fields))
  shape = history.ids.shape
  for name, array, wanted in zip(History._fields, history, like):
    if array.shape != (*shape, *wanted.shape[1:]) or array.dtype != wanted.dtype or not shape:
      raise ValueError(
        f'{name} of the profile is {array.dtype}{list(array.shape)} for ids {list(shape)}, where '
        f'this model has {wanted.dtype}{["N", *wanted.shape[1:]]}; restore it from a copy'
      )
  return history
