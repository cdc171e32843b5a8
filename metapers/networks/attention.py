"""Attention over weighted sets: there are no positions, so that order cannot matter.

A token of weight w is w copies of it (log w is added to its logits), and one of weight 0 is absent.

References:
  Vaswani et al. 2017, arXiv:1706.03762; Lee et al. 2019 (set transformer), arXiv:1810.00825; layer
  normalisation before each part as of Xiong et al. 2020, arXiv:2002.04745.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from metapers.core import masked
from metapers.core.types import Array, Float
from metapers.networks.mlp import MLP, checked_sizes
from metapers.networks.network import Network, from_module


class Sizes(NamedTuple):
  """Of a transformer: H width of tokens, hidden width of perceptrons, blocks, heads in each."""

  width: int
  hidden: int
  num_layers: int
  num_heads: int


class Attention(nnx.Module):
  """Σ_n p_n v_n with p ∝ weight · exp(q kᵀ / √(H / heads)), of several heads, mapped linearly."""

  def __init__(self, width: int, num_heads: int, *, rngs: nnx.Rngs):
    self.num_heads = num_heads
    self.query = nnx.Linear(width, width, rngs=rngs)
    self.key = nnx.Linear(width, width, rngs=rngs)
    self.value = nnx.Linear(width, width, rngs=rngs)
    self.out = nnx.Linear(width, width, rngs=rngs)

  def __call__(
    self, x: Float[Array, 'Q H'], given: Float[Array, 'N H'], weight: Float[Array, 'N']
  ) -> Float[Array, 'Q H']:
    """Returns what each of Q queries gathers from N tokens; the bias alone where none weighs."""
    query, key = self._heads(self.query(x)), self._heads(self.key(given))
    logits = jnp.einsum('qhd,nhd->hqn', query, key) / query.shape[-1] ** 0.5
    there = jnp.broadcast_to(weight > 0, logits.shape)
    logits = logits + jnp.log(jnp.where(weight > 0, weight, 1))[None, None]
    shares = jnp.exp(masked.log_softmax(logits, there))
    gathered = jnp.einsum('hqn,nhd->qhd', shares, self._heads(self.value(given)))
    return self.out(gathered.reshape(x.shape))

  def _heads(self, x: Array) -> Array:
    return x.reshape(len(x), self.num_heads, x.shape[-1] // self.num_heads)  # of 0 rows too


class Block(nnx.Module):
  """y = x + attention(LN x, LN given), y + MLP(LN y); self-attention where x is given itself."""

  def __init__(self, width: int, hidden: int, num_heads: int, *, rngs: nnx.Rngs):
    self.norm_queries = nnx.LayerNorm(width, rngs=rngs)
    self.norm_given = nnx.LayerNorm(width, rngs=rngs)
    self.norm = nnx.LayerNorm(width, rngs=rngs)
    self.attention = Attention(width, num_heads, rngs=rngs)
    self.mlp = MLP((width, hidden, width), rngs=rngs)

  def __call__(
    self, x: Float[Array, 'Q H'], given: Float[Array, 'N H'], weight: Float[Array, 'N']
  ) -> Float[Array, 'Q H']:
    """Returns the queries, informed by the tokens given."""
    x = x + self.attention(self.norm_queries(x), self.norm_given(given), weight)
    return x + self.mlp(self.norm(x))


class SetTransformer(nnx.Module):
  """Tokens attend to each other; S learned slots, or a weighted mean, read them."""

  def __init__(self, num_inputs: int, sizes: Sizes, num_slots: int, *, rngs: nnx.Rngs):
    width, hidden, num_layers, num_heads = sizes
    self.code = MLP((num_inputs, hidden, width), rngs=rngs)
    self.neutral = nnx.Param(_normal(rngs, 1, width))
    self.blocks = nnx.List([Block(width, hidden, num_heads, rngs=rngs) for _ in range(num_layers)])
    self.slots = nnx.Param(_normal(rngs, num_slots, width)) if num_slots else None
    self.read = Block(width, hidden, num_heads, rngs=rngs) if num_slots else None
    self.norm = nnx.LayerNorm(width, rngs=rngs)

  def __call__(
    self, tokens: Float[Array, 'N inputs'], weight: Float[Array, 'N']
  ) -> Float[Array, '... H']:
    """Returns [S, H], or the mean [H] without slots."""
    x = jnp.concatenate([self.neutral[...], self.code(tokens)])
    weight = jnp.append(jnp.ones_like(weight[:1], shape=1), weight)
    for block in self.blocks:
      x = block(x, x, weight)
    if self.slots is None or self.read is None:
      return self.norm(weight @ x / weight.sum())
    return self.norm(self.read(self.slots[...], x, weight))


class CrossAttention(nnx.Module):
  """Queries attend to what is given, block after block, and not to each other."""

  def __init__(self, sizes: Sizes, *, rngs: nnx.Rngs):
    width, hidden, num_layers, num_heads = sizes
    self.blocks = nnx.List([Block(width, hidden, num_heads, rngs=rngs) for _ in range(num_layers)])
    self.norm = nnx.LayerNorm(width, rngs=rngs)

  def __call__(
    self, x: Float[Array, '*batch H'], given: Float[Array, 'S H']
  ) -> Float[Array, '*batch H']:
    """Returns the queries, informed by what is given."""
    flat = x.reshape(-1, x.shape[-1])
    for block in self.blocks:
      flat = block(flat, given, jnp.ones_like(given[:, 0]))
    return self.norm(flat).reshape(x.shape)


def set_transformer(num_inputs: int, sizes: Sizes, num_slots: int = 0) -> Network:
  """Returns the network `(params, tokens [N, num_inputs], weight [N]) -> [S, H]`, or [H].

  A learned neutral token of weight 1 stands beside the tokens: it is all that an empty set has, and
  by its share attention knows how much the others weigh together.

  Args:
    num_inputs: width of a token.
    sizes: of the tokens' blocks; without any block they do not see each other.
    num_slots: S learned queries that read the tokens; with 0, their weighted mean is read.

  Raises:
    ValueError: for sizes below 1 (blocks: below 0), or a width that heads do not divide.
  """
  check_sizes(sizes)
  checked_sizes(num_inputs, (), sizes.width)
  if num_slots < 0:
    raise ValueError(f'num_slots must be at least 0, got {num_slots}')
  return from_module(lambda rngs: SetTransformer(num_inputs, sizes, num_slots, rngs=rngs))


def cross_attention(sizes: Sizes) -> Network:
  """Returns the network `(params, queries [..., H], given [S, H]) -> [..., H]`.

  Raises:
    ValueError: as `set_transformer`.
  """
  check_sizes(sizes)
  return from_module(lambda rngs: CrossAttention(sizes, rngs=rngs))


def check_sizes(sizes: Sizes) -> None:
  """Raises ValueError for sizes that no transformer has.

  Raises:
    ValueError: naming the sizes and what would do.
  """
  width, hidden, num_layers, num_heads = sizes
  if min(width, hidden, num_heads) < 1 or num_layers < 0:
    raise ValueError(f'sizes must be at least 1, and num_layers at least 0, got {sizes}')
  if width % num_heads:
    raise ValueError(f'num_heads must divide width, got {num_heads} heads of width {width}')


def _normal(rngs: nnx.Rngs, num_rows: int, width: int) -> Array:
  return jax.random.normal(rngs.params(), (num_rows, width), jnp.float32)
