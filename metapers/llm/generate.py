"""Responses by a decoder, of many prompts at once: the likeliest tokens, or drawn ones.

    generate = generator(model, num_tokens=64, end_tokens=(2,))
    tokens, mask = generate(params, Inputs(embeddings, mask), jax.random.key(0))

Prompts are embeddings, so that soft ones may be among them; see prompting.py. Several forms of each
prompt may say together which token comes next; see steer.py.

References:
  Fan et al. 2018 (the k likeliest), arXiv:1805.04833; Holtzman et al. 2020 (the likeliest of mass
  p), arXiv:1904.09751.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metapers.core.types import Array, Bool, Float, Int, Params, PRNGKey
from metapers.llm.decoder import Cache, Decoder
from metapers.llm.prompting import Inputs


class Sampling(NamedTuple):
  """How tokens are drawn, in this order.

  temperature: what logits are divided by; 0 takes the likeliest token. top_k: so many of the
  likeliest may be drawn; 0 for all. top_p: the fewest likeliest that have this probability together
  may be drawn.
  """

  temperature: float = 1.0
  top_k: int = 0
  top_p: float = 1.0


GREEDY = Sampling(temperature=0.0)


class Generated(NamedTuple):
  """tokens: 0 after the one that ends a response. mask: True up to that one."""

  tokens: Int[Array, 'B R']
  mask: Bool[Array, 'B R']


Generator = Callable[..., Generated]


def generator(
  model: Decoder,
  *,
  num_tokens: int,
  end_tokens: Sequence[int] = (),
  sampling: Sampling = GREEDY,
) -> Generator:
  """Returns `(params, inputs, key, lora=None, shares=None) -> Generated`, compiled for each shape.

  `inputs` hold prompts padded on the left. Sequence i draws its token t by a key of its own, folded
  from `key`, i and t: the prompts beside it do not change it. With `shares` [B, M], `inputs` are M
  forms of each prompt, [B, M, L, ...]: a token is drawn by the logits Σ_m shares_m h_m, h_m those
  after form m and the tokens so far.

  Args:
    model: the decoder.
    num_tokens: R, the most that a response may have; it stops early where all responses have ended.
    end_tokens: after any of which a response ends.
    sampling: how tokens are drawn; by default the likeliest are taken.

  Raises:
    ValueError: for options out of range; and by the function returned, for prompts that are padded
      on the right, or longer together with the response than the model was made for.
  """
  if num_tokens < 1:
    raise ValueError(f'num_tokens must be at least 1, got {num_tokens}')
  check_sampling(sampling)
  loop = _Loop(model, num_tokens, tuple(end_tokens), sampling)
  compiled = jax.jit(loop.run)

  def generate(params, inputs, key, lora=None, shares=None):
    _check_inputs(inputs, model, num_tokens)
    _check_shares(inputs, shares)
    return compiled(params, inputs, key, lora or {}, shares)

  return generate


def drawable(logits: Float[Array, 'B V'], sampling: Sampling) -> Float[Array, 'B V']:
  """Returns logits divided by the temperature, and -inf where a token may not be drawn."""
  logits = logits / sampling.temperature
  if sampling.top_k:
    least = jax.lax.top_k(logits, min(sampling.top_k, logits.shape[-1]))[0][:, -1:]
    logits = jnp.where(logits < least, -jnp.inf, logits)
  if sampling.top_p < 1:
    ordered = -jnp.sort(-logits)
    shares = jax.nn.softmax(ordered)
    # A token may be drawn if those before it do not have the probability together.
    is_kept = jnp.cumsum(shares, -1) - shares < sampling.top_p
    least = jnp.min(jnp.where(is_kept, ordered, jnp.inf), -1, keepdims=True)
    logits = jnp.where(logits < least, -jnp.inf, logits)
  return logits


def check_sampling(sampling: Sampling) -> None:
  """Raises ValueError for a way to draw that there is not.

  Raises:
    ValueError: naming the option and its range.
  """
  if not 0 <= sampling.temperature < float('inf'):
    raise ValueError(f'temperature must be finite and at least 0, got {sampling.temperature}')
  if sampling.top_k < 0:
    raise ValueError(f'top_k must be at least 0 (all), got {sampling.top_k}')
  if not 0 < sampling.top_p <= 1:
    raise ValueError(f'top_p must be above 0 and at most 1 (all), got {sampling.top_p}')


class _State(NamedTuple):
  """step: number of tokens there are. is_done: [B], whether a response has ended."""

  step: Array
  is_done: Array
  generated: Generated
  cache: Cache


class _Loop(NamedTuple):
  """Prompts in, responses out, inside jit."""

  model: Decoder
  num_tokens: int
  end_tokens: tuple[int, ...]
  sampling: Sampling

  def run(
    self, params: Params, inputs: Inputs, key: PRNGKey, lora: Params, shares: Array | None
  ) -> Generated:
    embeddings, mask = inputs
    flat = Inputs(embeddings.reshape(-1, *embeddings.shape[-2:]), mask.reshape(-1, mask.shape[-1]))
    num_forms = 1 if shares is None else shares.shape[1]
    num_rows, length, _ = flat.embeddings.shape
    shape = (num_rows // num_forms, self.num_tokens)
    cache = self.model.empty_cache(num_rows, length + self.num_tokens, flat.embeddings.dtype)
    hidden, cache = self.model.extend(params, *flat, cache, lora=lora)
    state = _State(
      jnp.zeros((), jnp.int32),
      jnp.zeros(shape[0], bool),
      Generated(jnp.zeros(shape, jnp.int32), jnp.zeros(shape, bool)),
      cache,
    )

    def with_token(hidden, state):
      logits = self.model.logits(params, hidden[:, -1:])[:, 0]
      if shares is not None:
        logits = jnp.einsum('bm,bmv->bv', shares, logits.reshape(*shares.shape, -1))
      return self._with_token(logits, state, key)

    def one_more(state):
      last = jax.lax.dynamic_slice_in_dim(state.generated.tokens, state.step - 1, 1, 1)
      read = self.model.embed(params, jnp.repeat(last, num_forms, 0))
      mask = jnp.ones(read.shape[:2], bool)
      hidden, cache = self.model.extend(params, read, mask, state.cache, lora=lora)
      return with_token(hidden, state._replace(cache=cache))

    def is_unfinished(state):
      return (state.step < self.num_tokens) & ~jnp.all(state.is_done)

    return jax.lax.while_loop(is_unfinished, one_more, with_token(hidden, state)).generated

  def _with_token(self, logits: Array, state: _State, key: PRNGKey) -> _State:
    token = jnp.where(state.is_done, 0, self._chosen(logits, state.step, key))
    tokens, mask = (
      jax.lax.dynamic_update_slice(old, new[:, None], (0, state.step))
      for old, new in zip(state.generated, (token, ~state.is_done))
    )
    ends = jnp.array(self.end_tokens, jnp.int32)
    is_done = state.is_done | (token[:, None] == ends[None]).any(-1)
    return _State(state.step + 1, is_done, Generated(tokens, mask), state.cache)

  def _chosen(self, logits: Array, step: Array, key: PRNGKey) -> Array:
    if self.sampling.temperature == 0:
      return jnp.argmax(logits, -1).astype(jnp.int32)

    def draw(row, logits):
      own = jax.random.fold_in(jax.random.fold_in(key, row), step)
      return jax.random.categorical(own, logits)

    drawn = jax.vmap(draw)(jnp.arange(len(logits)), drawable(logits, self.sampling))
    return drawn.astype(jnp.int32)


def _check_inputs(inputs: Inputs, model: Decoder, num_tokens: int) -> None:
  length, most = inputs.mask.shape[-1], model.config.max_positions
  if length + num_tokens > most:
    raise ValueError(
      f'a prompt of {length} positions and a response of {num_tokens} tokens do not fit in the '
      f'{most} that the model was made for'
    )
  if not np.asarray(inputs.mask)[..., -1:].all():
    raise ValueError('prompts must be padded on the left: the last position of each is real')


def _check_shares(inputs: Inputs, shares: Array | None) -> None:
  lead, given = inputs.mask.shape[:-1], () if shares is None else shares.shape
  if len(lead) != 1 if shares is None else lead != given:
    raise ValueError(
      f'shares must be [B, M] for M forms of each of B prompts, and None for one form; got shares '
      f'{given} and prompts {lead}'
    )
