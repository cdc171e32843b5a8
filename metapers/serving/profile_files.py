"""A profile as one file that needs no pickle, and is believed only where it is whole."""

import json
import os
import pathlib

import jax
import numpy as np

from metapers.core import files
from metapers.core.types import Any, UserState
from metapers.io import leaves
from metapers.serving import comparisons, exports, profiles
from metapers.serving.profiles import History, Profile

FORMAT, VERSION = 'metapers-profile', 2  # 2: with a sha256 of what is kept
HEADER, STATE = 'header', 'state.'


def to_bytes(profile: Profile) -> bytes:
  """Packs a profile: an npz file without pickles, with a JSON header."""
  arrays = _arrays(profile.history, profile.user_state)
  header = {'format': FORMAT, 'version': VERSION, 'model': profile.model, 'sha256': _sha256(arrays)}
  described = np.frombuffer(json.dumps(header).encode(), np.uint8)
  return files.packed({HEADER: described, **arrays})


def from_bytes(content: bytes, like: Profile) -> Profile:
  """Unpacks a profile.

  Args:
    content: what `to_bytes` made.
    like: any profile of one person of the model that it must have been made by.

  Raises:
    ValueError: for bytes that are no profile, damaged or edited, and for a profile of another
      version or model.
  """
  arrays = files.unpacked('the profile', content)
  header = _header(arrays)
  if header.get('version') != VERSION:
    raise ValueError(
      f'the profile has version {header.get("version")!r}; this code reads {VERSION}: use the '
      'metapers that wrote it, or adapt to the comparisons anew'
    )
  profiles.check_model(str(header.get('model')), like.model)
  history = _history(arrays, like.history)
  state = _state(arrays, history, like.user_state)
  try:
    check(history, state)
  except ValueError as error:
    raise ValueError(f'the profile was edited ({error}); restore it from a copy') from error
  if _sha256(_arrays(history, state)) != header.get('sha256'):
    raise ValueError(
      'the comparisons or the state of the profile are not those that it was written with (another '
      'sha256); restore it from a copy, or adapt anew'
    )
  return Profile(history, state, like.model)


def check(history: History, state: UserState) -> None:
  """Refuses what no model has made.

  Raises:
    ValueError: naming what is not finite, not chosen of what was shown, not an id, or misplaced.
  """
  for name, array in _arrays(history, state).items():
    if not np.isfinite(array).all():
      raise ValueError(f'{name} is not finite at {np.argwhere(~np.isfinite(array))[0].tolist()}')
  comparisons.check_choices(history.choice, history.shown)
  profiles.check_ids(history.ids, history.ids.shape)
  profiles.check_distinct(history)
  canonical = profiles.newest(history, history.ids.shape[-1])
  for name, array, wanted in zip(History._fields, history, canonical):
    if not np.array_equal(array, wanted):
      raise ValueError(f'{name}: something stands where no comparison is')


def save(profile: Profile, path: str | os.PathLike) -> pathlib.Path:
  """Writes a profile to a file, atomically, and returns the path."""
  return files.write_atomically(path, to_bytes(profile))


def _arrays(history: History, state: UserState) -> dict[str, np.ndarray]:
  named = {STATE + name: array for name, array in leaves.named(state).items()}
  return {**history._asdict(), **named}


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
  if len(shape) > 2 or 0 in shape[:-1]:
    raise ValueError(f'the profile is of {list(shape[:-1])} people; expected one, or [U] of them')
  return history


def _state(arrays: dict[str, np.ndarray], history: History, like: UserState) -> UserState:
  people = history.ids.shape[:-1]
  shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct((*people, *x.shape), x.dtype), like)
  stored = {
    name.removeprefix(STATE): array for name, array in arrays.items() if name.startswith(STATE)
  }
  return jax.tree.map(np.asarray, exports.rebuild(stored, shapes))
