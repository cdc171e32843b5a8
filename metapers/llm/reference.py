"""What the reference model of P-DPO says of responses: computed once, for it ignores the user."""

import functools
import hashlib
import os
import pathlib
import time
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from metapers.core import array_files
from metapers.core.task import Candidates, Choices
from metapers.core.types import Array, Callable, Features, Params
from metapers.io import processes
from metapers.llm import p_dpo, text_users
from metapers.llm.decoder import Decoder
from metapers.llm.text_users import Split

SILENT = 3.0  # seconds before a bar is shown
UNSAVED = 30.0  # seconds of work that a crash may lose
KEY_BYTES = 16

Found = dict[bytes, float]  # the hash of a candidate's tokens -> log π_ref(y | x)


def with_reference(
  model: Decoder,
  base: Params,
  given: Choices,
  *,
  chunk_size: int = 256,
  found: Found | None = None,
  save: Callable[[Found], object] = len,
) -> Choices:
  """Returns comparisons whose features hold log π_ref(y | x), computed once for equal tokens.

  The reference is the base, without users, what they say, or changes.

  Args:
    model: decoder.
    base: its parameters.
    given: comparisons [..., N].
    chunk_size: candidates at once; bounds the memory.
    found: what was computed before; what is new is added.
    save: is given `found` every half a minute, and at the end where something is new.
  """
  found = {} if found is None else found
  features, mask = given.candidates.features, given.candidates.mask
  flat = {name: np.asarray(x).reshape(-1, *x.shape[mask.ndim :]) for name, x in features.items()}
  tokens = [x for name, x in flat.items() if name != 'reference']
  kind = str([(x.dtype.str, x.shape[1:]) for x in tokens]).encode()  # of what the bytes are
  texts = (b''.join([kind, *(x[n].tobytes() for x in tokens)]) for n in range(mask.size))
  keys = [hashlib.blake2b(text, digest_size=KEY_BYTES).digest() for text in texts]
  new = {key: n for n, key in enumerate(keys) if key not in found}
  rows, saved_at = np.array(list(new.values()), np.int64), time.monotonic()
  for at in tqdm.trange(0, len(rows), chunk_size, desc='reference', delay=SILENT):
    part = rows[at : at + chunk_size]
    chunk = np.resize(part, chunk_size)  # repeats some in the last: all chunks have one shape
    log_p = _reference(model, base, {name: jnp.asarray(x[chunk]) for name, x in flat.items()})
    found |= {keys[row]: float(value) for row, value in zip(part, np.asarray(log_p))}
    if time.monotonic() > saved_at + UNSAVED:
      save(found)
      saved_at = time.monotonic()
  if rows.size:
    save(found)
  log_p = np.array([found[key] for key in keys], np.float32).reshape(mask.shape)
  candidates = Candidates({**features, 'reference': jnp.where(mask, log_p, 0)}, mask)
  return given._replace(candidates=candidates)


def with_references(
  model: Decoder,
  base: Params,
  splits: Mapping[str, Split],
  *,
  chunk_size: int = 256,
  path: str | os.PathLike | None = None,
) -> dict[str, Split]:
  """Returns the splits with what the reference model says of each response.

  Args:
    model: decoder.
    base: its parameters.
    splits: users and their comparisons.
    chunk_size: candidates at once.
    path: of a file that keeps what this base says, whoever asks; None keeps nothing.
  """
  found = {} if path is None else read(path)

  def save(found):
    if path is not None and processes.is_first():
      write(path, found)

  def change(given):
    return with_reference(model, base, given, chunk_size=chunk_size, found=found, save=save)

  return text_users.changed(splits, change)


@functools.partial(jax.jit, static_argnums=0)
def _reference(model: Decoder, base: Params, features: Features) -> Array:
  return p_dpo.log_probs(model, base, features)


def write(path: str | os.PathLike, found: Found) -> pathlib.Path:
  """Writes what was computed to a file, and returns its path."""
  keys = np.frombuffer(b''.join(found), np.uint8).reshape(-1, KEY_BYTES)
  return array_files.write_npz(
    path, {'keys': keys, 'log_probs': np.array(list(found.values()), float)}
  )


def read(path: str | os.PathLike) -> Found:
  """Returns what a file of `write` holds; nothing where there is none.

  Raises:
    ValueError: for a damaged file.
  """
  if not pathlib.Path(path).exists():
    return {}
  held = array_files.read_npz(path)
  return {
    key.tobytes(): value
    for key, value in zip(held['keys'], held['log_probs'].tolist(), strict=True)
  }
