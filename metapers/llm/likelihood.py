"""How likely a language model finds given responses: what it prefers, without generating."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metapers.core.types import Array, Float, Int, Params
from metapers.llm import prompting
from metapers.llm.decoder import Decoder

STEP = 64  # lengths are rounded up to multiples of it: each pair of lengths compiles once


class Asked(NamedTuple):
  """A prompt and the K responses to it that are compared, as tokens."""

  prompt: Sequence[int]
  responses: Sequence[Sequence[int]]


class Likelihood(NamedTuple):
  """Σ log p of the tokens of each response, in nats, and their number."""

  log_probs: Float[np.ndarray, 'K']
  num_tokens: Int[np.ndarray, 'K']


Score = Callable[[Params, Asked], Likelihood]


def scorer(model: Decoder, *, batch_size: int | None = None) -> Score:
  """Returns `(params, asked) -> Likelihood`; the prompt is read once for all its responses.

  Args:
    model: of the parameters.
    batch_size: responses at once, one by default: of short ones several are faster, and take as
      much more memory.

  Raises by the function returned:
    ValueError: for a prompt and a response longer than the model was made for.
  """

  @jax.jit
  def compiled(params, prompt, prompt_mask, responses, response_mask):
    size = prompt.shape[-1] + responses.shape[-1]
    cache = model.empty_cache(1, size, params['embedding'].dtype)
    read, cache = model.extend(params, model.embed(params, prompt), prompt_mask, cache)

    def of_response(given):
      tokens, mask = given
      embedded = model.embed(params, tokens[None])
      hidden, _ = model.extend(params, embedded, mask[None], cache)
      # The head reads the R positions before the last: the prompt's own last is the first of them.
      hidden = jnp.concatenate([read[:, -1:], hidden], 1)
      return model.response_log_probs(params, hidden, tokens[None], mask[None])[0].sum()

    return jax.lax.map(of_response, (responses, response_mask), batch_size=batch_size)

  def score(params: Params, asked: Asked) -> Likelihood:
    longest, most = max(map(len, asked.responses)), model.config.max_positions
    sizes = rounded(len(asked.prompt)), rounded(longest)
    if sum(sizes) > most:  # as they are, for what is rounded away may just fit
      sizes = len(asked.prompt), longest
    if sum(sizes) > most:
      raise ValueError(
        f'a prompt of {len(asked.prompt)} tokens and a response of {longest} do not fit in '
        f'the {most} positions that the model was made for'
      )
    prompt = prompting.padded([asked.prompt], side='left', length=sizes[0])
    responses = prompting.padded(asked.responses, side='right', length=sizes[1])
    found: Array = compiled(params, *prompt, *responses)
    lengths = [len(response) for response in asked.responses]
    return Likelihood(np.asarray(found, np.float64), np.array(lengths, np.int32))

  return score


def rounded(length: int) -> int:
  """Returns a length, rounded up to the next multiple of STEP."""
  return -(-length // STEP) * STEP


def in_order_of_length(asked: Sequence[Asked]) -> Iterator[int]:
  """Yields the numbers of what is asked by size, so that what compiles together runs together."""
  sizes = [(rounded(len(one.prompt)), rounded(max(map(len, one.responses)))) for one in asked]
  yield from sorted(range(len(asked)), key=sizes.__getitem__)
