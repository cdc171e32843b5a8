"""What the reference model of P-DPO says of responses: computed once, for it ignores the user."""

import functools
import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from metapers.core.task import Candidates, Choices
from metapers.core.types import Array, Features, Params
from metapers.llm import p_dpo
from metapers.llm.decoder import Decoder

SILENT = 3.0  # seconds before a bar is shown


def with_reference(
  model: Decoder,
  base: Params,
  given: Choices,
  *,
  chunk_size: int = 256,
  found: dict[bytes, float] | None = None,
) -> Choices:
  """Returns comparisons whose features hold log π_ref(y | x), computed once for equal tokens.

  The reference is the base, without users, what they say, or changes.

  Args:
    model: decoder.
    base: its parameters.
    given: comparisons [..., N].
    chunk_size: candidates at once; bounds the memory.
    found: what was computed before, by the hash of the tokens; what is new is added.
  """
  found = {} if found is None else found
  features, mask = given.candidates.features, given.candidates.mask
  flat = {name: np.asarray(x).reshape(-1, *x.shape[mask.ndim :]) for name, x in features.items()}
  tokens = [x for name, x in flat.items() if name != 'reference']
  texts = (b''.join(x[n].tobytes() for x in tokens) for n in range(mask.size))
  keys = [hashlib.blake2b(text, digest_size=16).digest() for text in texts]
  new = {key: n for n, key in enumerate(keys) if key not in found}
  rows = np.array(list(new.values()), np.int64)
  for at in tqdm.trange(0, len(rows), chunk_size, desc='reference', delay=SILENT):
    part = rows[at : at + chunk_size]
    chunk = np.resize(part, chunk_size)  # repeats some in the last: all chunks have one shape
    log_p = _reference(model, base, {name: jnp.asarray(x[chunk]) for name, x in flat.items()})
    found |= {keys[row]: float(value) for row, value in zip(part, np.asarray(log_p))}
  log_p = np.array([found[key] for key in keys], np.float32).reshape(mask.shape)
  candidates = Candidates({**features, 'reference': jnp.where(mask, log_p, 0)}, mask)
  return given._replace(candidates=candidates)


@functools.partial(jax.jit, static_argnums=0)
def _reference(model: Decoder, base: Params, features: Features) -> Array:
  return p_dpo.log_probs(model, base, features)
