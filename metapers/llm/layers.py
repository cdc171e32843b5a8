"""One layer of a decoder: attention to earlier positions and a gated perceptron, both normalised.

Letters: B sequences, L positions of them, S positions that they may see, H heads of queries, G
heads of keys and values, D size of a head, W width.

References:
  Touvron et al. 2023 (Llama), arXiv:2302.13971; Ainslie et al. 2023 (fewer heads of keys),
  arXiv:2305.13245; Gemma Team 2024, arXiv:2403.08295; Hu et al. 2021 (LoRA), arXiv:2106.09685.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from metapers.core.types import Any, Array, Bool, Callable, Float, Params
from metapers.llm import rotary
from metapers.networks.network import from_module, method

PROJECTIONS = ('query', 'key', 'value', 'out', 'gate', 'up', 'down')
ACTIVATIONS = {
  'silu': jax.nn.silu,
  'gelu_tanh': functools.partial(jax.nn.gelu, approximate=True),
}


class Config(NamedTuple):
  """Of a decoder.

  vocab_size: V. width: W. hidden: width inside of the perceptrons. num_layers: of them. num_heads:
  H. num_key_heads: G, which divides H. head_size: D. norm_epsilon: added to mean squares. rope:
  positions. has_bias: query, key and value have one. has_head_norm: each head of queries and keys
  is normalised. is_tied: the head is the embedding. max_positions: what the model was made for;
  nothing stops at it. activation: of the perceptrons' gates. norm_offset: added to the scales of
  norms. scales_embeddings: what stands at each position is multiplied by √W before the layers.
  """

  vocab_size: int
  width: int
  hidden: int
  num_layers: int
  num_heads: int
  num_key_heads: int
  head_size: int
  norm_epsilon: float = 1e-5
  rope: rotary.Rope = rotary.Rope()
  has_bias: bool = False
  has_head_norm: bool = False
  is_tied: bool = True
  max_positions: int = 2048
  activation: str = 'silu'
  norm_offset: int = 0
  scales_embeddings: bool = False


class RMSNorm(nnx.Module):
  """y = (offset + scale) x / √(mean x² + ε), see `normalised`; a factor of 1 at first."""

  def __init__(self, width: int, epsilon: float, offset: int, dtype: Any):
    self.epsilon, self.offset = epsilon, offset
    self.scale = nnx.Param(jnp.full((width,), 1 - offset, dtype))

  def __call__(self, x: Float[Array, '*batch W']) -> Float[Array, '*batch W']:
    """Returns y."""
    return normalised(x, self.scale[...], self.epsilon, self.offset)


class Layer(nnx.Module):
  """x = x + out(attention(norm x)); x = x + down(activation(gate(norm x)) · up(norm x))."""

  def __init__(self, config: Config, dtype: Any, *, rngs: nnx.Rngs):
    self.head_size, self.activation = config.head_size, ACTIVATIONS[config.activation]
    num_queries, num_keys = (
      number * config.head_size for number in (config.num_heads, config.num_key_heads)
    )

    def linear(num_inputs, num_outputs, use_bias=False):
      return nnx.Linear(num_inputs, num_outputs, use_bias=use_bias, param_dtype=dtype, rngs=rngs)

    def norm(width):
      return RMSNorm(width, config.norm_epsilon, config.norm_offset, dtype)

    self.norm_attention = norm(config.width)
    self.query = linear(config.width, num_queries, config.has_bias)
    self.key = linear(config.width, num_keys, config.has_bias)
    self.value = linear(config.width, num_keys, config.has_bias)
    self.query_norm = norm(config.head_size) if config.has_head_norm else None
    self.key_norm = norm(config.head_size) if config.has_head_norm else None
    self.out = linear(num_queries, config.width)
    self.norm_mlp = norm(config.width)
    self.gate = linear(config.width, config.hidden)
    self.up = linear(config.width, config.hidden)
    self.down = linear(config.hidden, config.width)

  def heads(
    self, x: Float[Array, 'B L W'], turns: rotary.Turns, lora: Params
  ) -> tuple[Float[Array, 'B L H D'], Float[Array, 'B L G D'], Float[Array, 'B L G D']]:
    """Returns queries, keys and values."""
    x = self.norm_attention(x)
    query = self._divided(_projected(self.query, x, lora.get('query')))
    key = self._divided(_projected(self.key, x, lora.get('key')))
    value = self._divided(_projected(self.value, x, lora.get('value')))
    query = query if self.query_norm is None else self.query_norm(query)
    key = key if self.key_norm is None else self.key_norm(key)
    return rotary.rotate(query, turns), rotary.rotate(key, turns), value

  def rest(
    self, x: Float[Array, 'B L W'], gathered: Float[Array, 'B L H D'], lora: Params
  ) -> Float[Array, 'B L W']:
    """Returns the outputs, from the inputs and what their queries gathered."""
    gathered = gathered.reshape(*x.shape[:-1], -1)
    x = x + _projected(self.out, gathered, lora.get('out'))
    normed = self.norm_mlp(x)
    gate = self.activation(_projected(self.gate, normed, lora.get('gate')))
    inner = gate * _projected(self.up, normed, lora.get('up'))
    return x + _projected(self.down, inner, lora.get('down'))

  def _divided(self, x: Array) -> Array:
    return x.reshape(*x.shape[:-1], -1, self.head_size)


class LayerFunctions(NamedTuple):
  """init: `(key) -> params`. heads, rest: as the layer's methods, of `(params, ...)`."""

  init: Callable[..., Params]
  heads: Callable[..., tuple[Array, Array, Array]]
  rest: Callable[..., Array]


def layer(config: Config, dtype: Any) -> LayerFunctions:
  """Returns a layer as pure functions of a plain nested dict.

  Args:
    config: of the decoder.
    dtype: of the parameters that `init` makes.
  """

  def build(rngs):
    return Layer(config, dtype, rngs=rngs)

  return LayerFunctions(
    from_module(build).init, method(build, Layer.heads), method(build, Layer.rest)
  )


def attention(
  query: Float[Array, 'B L H D'],
  key: Float[Array, 'B S G D'],
  value: Float[Array, 'B S G D'],
  visible: Bool[Array, 'B L S'],
) -> Float[Array, 'B L H D']:
  """Returns Σ_s p_s v_s with p ∝ exp(q kᵀ / √D) over what is visible, p in float32.

  Query heads h of one h // (H / G) share keys and values.
  """
  num_sequences, length, num_heads, size = query.shape
  query = query.reshape(num_sequences, length, key.shape[2], -1, size)
  logits = jnp.einsum('blgqd,bsgd->bgqls', query, key).astype(jnp.float32) / size**0.5
  logits = jnp.where(visible[:, None, None], logits, jnp.finfo(jnp.float32).min)
  shares = jax.nn.softmax(logits, -1).astype(value.dtype)
  gathered = jnp.einsum('bgqls,bsgd->blgqd', shares, value)
  return gathered.reshape(num_sequences, length, num_heads, size)


def normalised(
  x: Float[Array, '*batch W'], scale: Float[Array, 'W'], epsilon: float, offset: int = 0
) -> Float[Array, '*batch W']:
  """Returns (offset + scale) x / √(mean x² + epsilon), the quotient in float32.

  With an offset the product is in float32, too: published bfloat16 scales are near 0 there.
  """
  wide = x.astype(jnp.float32)
  wide = wide * jax.lax.rsqrt(jnp.mean(wide**2, -1, keepdims=True) + epsilon)
  scale = scale.reshape((1,) * (x.ndim - 1) + (-1,))
  if offset:
    return (wide * (offset + scale.astype(jnp.float32))).astype(x.dtype)
  return wide.astype(x.dtype) * scale


def _projected(linear: nnx.Linear, x: Array, lora: Params | None) -> Array:
  y = linear(x)
  return y if lora is None else y + ((x @ lora['a']) @ lora['b']).astype(y.dtype)
