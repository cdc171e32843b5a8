"""Decoder-only transformers of the Llama form as pure functions of plain nested dicts.

    model = decoder.decoder(config)                     # config: by load.py, or `layers.Config`
    params = model.init(key)                            # or by load.py
    embeddings = model.embed(params, tokens)            # [*batch, L] -> [*batch, L, W]
    hidden = model.hidden(params, embeddings, mask)     # [*batch, L, W]; lora=: see lora.py
    logits = model.logits(params, hidden)               # [*batch, L, V], float32
    log_probs = model.response_log_probs(params, hidden, response, response_mask)  # [*batch, R]

Soft prompts are rows of `embeddings`, with True in `mask`; `prompting.py` places them. Padding,
False in `mask`, may stand on either side: its embeddings are not read, positions count what is
real, and what comes out there is finite and means nothing. A prompt padded on the left and a
response on the right make a sequence whose last R positions are the response's. `extend` does the
same piece by piece, with a cache of keys and values.

Parameters are `{'embedding': [V, W], 'layers': ..., 'norm': {'scale': [W]}}`, and `'head': [V, W]`
where it is not the embedding. Arrays of `layers` have a leading axis over layers, so that one layer
is compiled and scanned over: `params['layers']['query']['kernel']` is [layers, W, H D]. `by_layer`
takes them apart, to write long responses on a CPU.

Letters: L positions of a sequence, R those of a response, W width, V tokens of the vocabulary,
`batch` any leading axes, B sequences, S places of a cache; see also layers.py.
"""

import operator
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metapers.core.types import Any, Array, Bool, Callable, Float, Int, Params, PRNGKey
from metapers.llm import layers, rotary
from metapers.llm.layers import Config, LayerFunctions


class Cache(NamedTuple):
  """What earlier positions leave to later ones.

  keys, values: of S places the first `length` are taken. mask: which of these are real.
  """

  keys: Float[Array, 'layers B S G D']
  values: Float[Array, 'layers B S G D']
  mask: Bool[Array, 'B S']
  length: Int[Array, '']


class Decoder(NamedTuple):
  """A decoder's pure functions, as methods; `decoder` makes it.

  is_checkpointed: gradients compute layers and logits once more instead of keeping their insides.
  """

  config: Config
  layer: LayerFunctions
  dtype: Any
  is_checkpointed: bool

  def init(self, key: PRNGKey) -> Params:
    """Returns random parameters."""
    key_embedding, key_head, key_layers = jax.random.split(key, 3)
    params = {
      'embedding': self._normal(key_embedding),
      'layers': jax.vmap(self.layer.init)(jax.random.split(key_layers, self.config.num_layers)),
      'norm': {'scale': jnp.full((self.config.width,), 1 - self.config.norm_offset, self.dtype)},
    }
    return params if self.config.is_tied else {**params, 'head': self._normal(key_head)}

  def embed(self, params: Params, tokens: Int[Array, '*batch L']) -> Float[Array, '*batch L W']:
    """Returns the embeddings of tokens, which `hidden` and `extend` scale where a family does."""
    return params['embedding'][tokens]

  def hidden(
    self,
    params: Params,
    embeddings: Float[Array, '*batch L W'],
    mask: Bool[Array, '*batch L'],
    *,
    positions: Int[Array, '*batch L'] | None = None,
    lora: Params | None = None,
  ) -> Float[Array, '*batch L W']:
    """Returns what the head reads, normalised.

    Args:
      params: as of `init`; those of the head are not read.
      embeddings: of tokens, or soft.
      mask: which positions are real; no other position sees those that are not.
      positions: `positions_of(mask)` by default.
      lora: added to projections, see lora.py.
    """
    positions = positions_of(mask) if positions is None else positions
    flat_mask, flat_positions = (x.reshape(-1, x.shape[-1]) for x in (mask, positions))
    turns = rotary.turns(self.config.rope, self.config.head_size, flat_positions)
    visible = _visible(flat_mask, jnp.zeros((), jnp.int32), mask.shape[-1])

    def one_layer(x, inputs):
      _, params, lora = inputs
      query, key, value = self.layer.heads(params, x, turns, lora)
      return self.layer.rest(params, x, layers.attention(query, key, value, visible), lora), None

    body = jax.checkpoint(one_layer, prevent_cse=False) if self.is_checkpointed else one_layer
    x = self._inputs(embeddings.reshape(-1, *embeddings.shape[-2:]), flat_mask)
    x = _through_layers(body, x, params['layers'], lora)
    return self._normed(params, x).reshape(embeddings.shape)

  def logits(
    self, params: Params, hidden: Float[Array, '*batch L W']
  ) -> Float[Array, '*batch L V']:
    """Returns the logits of the token after each position."""
    head = params['embedding' if self.config.is_tied else 'head']
    return jnp.einsum('...w,vw->...v', hidden, head, preferred_element_type=jnp.float32)

  def response_log_probs(
    self,
    params: Params,
    hidden: Float[Array, '*batch L W'],
    response: Int[Array, '*batch R'],
    mask: Bool[Array, '*batch R'],
  ) -> Float[Array, '*batch R']:
    """Returns log p of each token of a response that stands at the last R positions.

    Args:
      params: as of `init`.
      hidden: of prompt and response; the head reads the R positions before the last.
      response: its tokens, the one that ends it among them, padded on the right.
      mask: which of them count; the others get 0.
    """
    length = response.shape[-1]
    before = hidden[..., -length - 1 : -1, :].reshape(-1, length, hidden.shape[-1])

    def one(inputs):
      hidden, tokens = inputs
      log_probs = jax.nn.log_softmax(self.logits(params, hidden))
      return jnp.take_along_axis(log_probs, tokens[..., None], -1)[..., 0]

    flat = response.reshape(-1, length)
    if self.is_checkpointed:
      found = jax.lax.map(jax.checkpoint(one), (before, flat))
    else:
      found = one((before, flat))
    return jnp.where(mask, found.reshape(response.shape), 0)

  def empty_cache(self, num_sequences: int, size: int, dtype: Any = jnp.float32) -> Cache:
    """Returns a cache of `size` free places for each of some sequences."""
    config = self.config
    shape = (config.num_layers, num_sequences, size, config.num_key_heads, config.head_size)
    places, mask = jnp.zeros(shape, dtype), jnp.zeros((num_sequences, size), bool)
    return Cache(places, places, mask, jnp.zeros((), jnp.int32))

  def extend(
    self,
    params: Params,
    embeddings: Float[Array, 'B L W'],
    mask: Bool[Array, 'B L'],
    cache: Cache,
    *,
    lora: Params | None = None,
  ) -> tuple[Float[Array, 'B L W'], Cache]:
    """Returns what the head reads at the next L positions, and the cache with them.

    Args:
      params: as of `init`.
      embeddings: of the next positions.
      mask: which of them are real.
      cache: with L free places at least; nothing tells where there are fewer.
      lora: added to projections.
    """
    length, start = embeddings.shape[1], cache.length
    seen = jax.lax.dynamic_update_slice(cache.mask, mask, (0, start))
    positions = jax.lax.dynamic_slice_in_dim(positions_of(seen), start, length, 1)
    turns = rotary.turns(self.config.rope, self.config.head_size, positions)
    visible = _visible(seen, start, length)

    def one_layer(carry, inputs):
      # The cache is carried whole: what a scan collects would be written anew for each token.
      x, keys, values = carry
      number, params, lora = inputs
      query, key, value = self.layer.heads(params, x, turns, lora)
      keys = jax.lax.dynamic_update_slice(keys, key[None], (number, 0, start, 0, 0))
      values = jax.lax.dynamic_update_slice(values, value[None], (number, 0, start, 0, 0))
      gathered = layers.attention(query, keys[number], values[number], visible)
      return (self.layer.rest(params, x, gathered, lora), keys, values), None

    carry = (self._inputs(embeddings, mask), cache.keys, cache.values)
    x, keys, values = _through_layers(one_layer, carry, params['layers'], lora)
    return self._normed(params, x), Cache(keys, values, seen, start + length)

  def _inputs(self, embeddings: Array, mask: Array) -> Array:
    # Soft prompts are scaled as tokens are: they start as rows of the vocabulary.
    scale = self.config.width**0.5 if self.config.scales_embeddings else 1
    # Not times 0: padding may hold NaN.
    return jnp.where(mask[..., None], embeddings * jnp.asarray(scale, embeddings.dtype), 0)

  def _normed(self, params: Params, x: Array) -> Array:
    config, scale = self.config, params['norm']['scale']
    return layers.normalised(x, scale, config.norm_epsilon, config.norm_offset)

  def _normal(self, key: PRNGKey) -> Array:
    shape = (self.config.vocab_size, self.config.width)
    return 0.02 * jax.random.normal(key, shape, self.dtype)


def decoder(config: Config, *, dtype: Any = jnp.float32, is_checkpointed: bool = False) -> Decoder:
  """Returns the decoder of a configuration.

  Args:
    config: sizes and form.
    dtype: of the parameters that `init` makes; it is computed in that of the parameters given.
    is_checkpointed: gradients compute each layer, and each sequence's logits, once more instead of
      keeping what is inside of them.

  Raises:
    ValueError: for sizes below 1, or that do not fit each other, and for an unknown activation.
  """
  check_config(config)
  return Decoder(config, layers.layer(config, dtype), dtype, is_checkpointed)


def check_config(config: Config) -> None:
  """Raises ValueError for a configuration that no decoder has.

  Raises:
    ValueError: naming the sizes, or the activation, and what would do.
  """
  if config.activation not in layers.ACTIVATIONS:
    known = ', '.join(layers.ACTIVATIONS)
    raise ValueError(f'activation must be one of {known}, got {config.activation!r}')
  sizes = dict(list(config._asdict().items())[:7])
  if min(sizes.values()) < 1:
    raise ValueError(f'sizes must be at least 1, got {sizes}')
  if config.num_heads % config.num_key_heads:
    raise ValueError(
      f'num_key_heads must divide num_heads, got {config.num_key_heads} and {config.num_heads}'
    )
  if config.head_size % 2:
    raise ValueError(f'head_size must be even, for features turn in pairs, got {config.head_size}')


def by_layer(params: Params) -> Params:
  """Returns the parameters with `layers` a tuple of one dict for each, as all functions here read.

  On a CPU a scan copies the weights of each layer before they are multiplied, for every token anew;
  apart they are read where they stand, but each layer is compiled by itself.
  """
  stacked = params['layers']
  apart = (jax.tree.map(operator.itemgetter(n), stacked) for n in range(_num_layers(stacked)))
  return {**params, 'layers': tuple(apart)}


def positions_of(mask: Bool[Array, '*batch L']) -> Int[Array, '*batch L']:
  """Returns how many real positions stand before each one; 0 where none does."""
  return jnp.clip(jnp.cumsum(mask, -1, dtype=jnp.int32) - 1, 0)


def _through_layers(
  body: Callable, carry: Any, weights: Params | tuple[Params, ...], lora: Params | None
) -> Any:
  """Returns what `body: (carry, (number, params, lora)) -> (carry, None)` of all layers leaves."""
  if isinstance(weights, tuple):
    for number, own in enumerate(weights):
      changes = jax.tree.map(operator.itemgetter(number), lora or {})
      carry, _ = body(carry, (number, own, changes))
    return carry
  numbers = jnp.arange(_num_layers(weights))
  return jax.lax.scan(body, carry, (numbers, weights, lora or {}))[0]


def _num_layers(stacked: Params) -> int:
  return len(jax.tree.leaves(stacked)[0])


def _visible(mask: Array, start: Array, length: int) -> Bool[Array, 'B L S']:
  """Returns what the `length` positions from `start` on see: what is real up to themselves."""
  places = jnp.arange(mask.shape[-1])
  own = (start + jnp.arange(length))[:, None]
  # Padding sees itself, lest its shares be of nothing.
  return (mask[:, None] & (places[None] <= own)[None]) | (places[None] == own)[None]
