"""Responses of a language model, beside transformers on torch, in turns and by the same tokens."""

import functools
import os
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
import transformers

from metapers.core.types import Any, Int, Params
from metapers.llm import decoder, generate, hf_config, load
from metapers.llm.prompting import Inputs

NUM_PROMPTS, LENGTH, NUM_TOKENS, NUM_ROUNDS = (1, 8), 64, 64, 5

Write = Callable[[Int[np.ndarray, 'B L']], Int[np.ndarray, 'B R']]  # prompts -> responses


class Timed(NamedTuple):
  """Seconds of one way to write. first: of the first call, which compiles; rounds: of others."""

  num_prompts: int
  name: str
  first: float
  rounds: tuple[float, ...]


def times(folder: str | os.PathLike) -> list[Timed]:
  """Returns what the likeliest NUM_TOKENS tokens after LENGTH random ones take.

  Args:
    folder: of Hugging Face.

  Raises:
    ValueError: where two ways write other tokens.
  """
  config, params = hf_config.read(folder), load.params(folder)
  model = decoder.decoder(config)
  generator = generate.generator(model, num_tokens=NUM_TOKENS)

  def ours(params: Params, prompts: np.ndarray) -> np.ndarray:
    inputs = Inputs(model.embed(params, jnp.asarray(prompts)), jnp.ones(prompts.shape, bool))
    return np.asarray(generator(params, inputs, jax.random.key(0)).tokens)

  apart = jax.block_until_ready(decoder.by_layer(params))
  ways: dict[str, Write] = {
    'torch': by_torch(folder),
    'generate': functools.partial(ours, params),
    'by_layer': functools.partial(ours, apart),
  }
  random = np.random.default_rng(0)
  sizes = [(count, LENGTH) for count in NUM_PROMPTS]
  return [
    each for size in sizes for each in in_turns(ways, random.integers(0, config.vocab_size, size))
  ]


def by_torch(folder: str | os.PathLike) -> Write:
  """Returns how transformers writes."""
  model: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
  model.generation_config = transformers.GenerationConfig()
  settings = transformers.GenerationConfig(
    max_new_tokens=NUM_TOKENS, do_sample=False, eos_token_id=None, pad_token_id=0
  )

  def write(prompts):
    given = torch.tensor(prompts)
    with torch.no_grad():
      found = model.generate(
        given, attention_mask=torch.ones_like(given), generation_config=settings
      )
    return found.numpy()[:, LENGTH:]

  return write


def in_turns(ways: dict[str, Write], prompts: Int[np.ndarray, 'B L']) -> list[Timed]:
  """Returns what each way takes for the same prompts, a round of all after another.

  Raises:
    ValueError: where two ways write other tokens.
  """
  seconds: dict[str, list[float]] = {name: [] for name in ways}
  written: dict[str, np.ndarray] = {}
  for _ in range(1 + NUM_ROUNDS):
    for name, write in ways.items():
      start = time.perf_counter()
      written[name] = write(prompts)
      seconds[name].append(time.perf_counter() - start)
  for name, tokens in written.items():
    if not np.array_equal(tokens, written['torch']):
      raise ValueError(f'{name} writes other tokens than torch; nothing is compared')
  return [Timed(len(prompts), name, own[0], tuple(own[1:])) for name, own in seconds.items()]
