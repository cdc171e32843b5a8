"""A tiny decoder and comparisons of random tokens, for tests of policies."""

import jax
import jax.numpy as jnp
import numpy as np

from metapers.core import task
from metapers.core.task import Candidates, Task
from metapers.llm import decoder, p_dpo, reference
from metapers.llm.layers import Config

VOCABULARY, PROMPT, RESPONSE = 23, 5, 4
MODEL = decoder.decoder(
  Config(
    vocab_size=VOCABULARY, width=8, hidden=16, num_layers=2, num_heads=2, num_key_heads=2,
    head_size=4,
  )
)  # fmt: skip
BASE = MODEL.init(jax.random.key(7))
KEY = jax.random.key(0)


def comparisons(num: int, seed: int = 0):
  """Comparisons of responses of different lengths to prompts of different lengths."""
  rng = np.random.default_rng(seed)
  shape = (num, 2)
  lengths = rng.integers(2, PROMPT + 1, (num, 1)).repeat(2, 1)
  prompt_mask = np.arange(PROMPT) >= PROMPT - lengths[..., None]
  response_mask = np.arange(RESPONSE) < rng.integers(1, RESPONSE + 1, shape)[..., None]
  prompt = rng.integers(1, VOCABULARY, (num, 1, PROMPT)).repeat(2, 1) * prompt_mask
  response = rng.integers(1, VOCABULARY, (*shape, RESPONSE)) * response_mask
  features = p_dpo.sequences(
    *(jnp.asarray(x, jnp.int32) if x.dtype != bool else jnp.asarray(x)
      for x in (prompt, prompt_mask, response, response_mask))
  )  # fmt: skip
  given = task.choices(
    Candidates(features, jnp.ones(shape, bool)), jnp.asarray(rng.integers(0, 2, num), jnp.int32)
  )
  return reference.with_reference(MODEL, BASE, given)


def episode(num: int = 6, user: int = 1, seed: int = 0, context=None) -> Task:
  """A task of one user whose support is empty."""
  given = comparisons(num, seed)
  nothing = jax.tree.map(lambda x: x[:0], given)
  context = task.no_context() if context is None else context
  return Task(nothing, given, jnp.asarray(user, jnp.int32), context)


def moved(params, scale: float = 0.3, seed: int = 3):
  """Parameters with noise on all of them, but the base's."""
  leaves, structure = jax.tree.flatten({k: v for k, v in params.items() if k != 'base'})
  keys = jax.random.split(jax.random.key(seed), len(leaves))
  noisy = [x + scale * jax.random.normal(k, x.shape, x.dtype) for x, k in zip(leaves, keys)]
  return {**params, **jax.tree.unflatten(structure, noisy)}
