"""What transformers and variational learners share: comparisons as tokens that see each other.

The token of a comparison is read from its two sides, φ(chosen) and the mean φ of the others: of
both side by side or, odd by construction, of their difference, so that a swapped label turns the
sign of what is read, and does nothing else.
"""

import jax
import jax.numpy as jnp

from metapers.core import masked
from metapers.core.task import Choices
from metapers.core.types import Array, Float
from metapers.learners import neural_process
from metapers.learners.utility import embed
from metapers.networks.attention import Sizes, set_transformer
from metapers.networks.linear_mlp import linear_mlp
from metapers.networks.mlp import mlp
from metapers.networks.network import Network


def tokens(
  embedding: Float[Array, 'N K H'], support: Choices, *, odd: bool, swapped: bool = False
) -> Float[Array, 'N width']:
  """Returns φ(chosen) - φ(others), [N, H], or both side by side, [N, 2 H]; zeros where masked.

  Args:
    embedding: φ of each candidate.
    support: which of them were chosen.
    odd: whether the difference alone is read.
    swapped: exchanges the two sides: the answers opposite to those given, where K = 2.
  """
  chosen, others = neural_process.sides(embedding, support)
  if swapped:
    chosen, others = others, chosen
  return chosen - others if odd else jnp.concatenate([chosen, others], -1)


def pair_encoder(num_features: int, sizes: Sizes, num_slots: int = 0, *, odd: bool) -> Network:
  """Returns the network `(params, support, swapped=False) -> [S, H]`, or their mean [H].

  Args:
    num_features: D.
    sizes: of the transformer; H is also the width of φ.
    num_slots: S; 0 for the mean of the tokens.
    odd: see `tokens`.

  Raises:
    ValueError: for sizes out of range.
  """
  embedding = linear_mlp(num_features, (sizes.hidden,), sizes.width)
  encoder = set_transformer(sizes.width if odd else 2 * sizes.width, sizes, num_slots)

  def init(key):
    key_embedding, key_encoder = jax.random.split(key)
    return {'embedding': embedding.init(key_embedding), 'encoder': encoder.init(key_encoder)}

  def apply(params, support, swapped=False):
    embedded = embed(embedding, params['embedding'], support.candidates)
    token = tokens(embedded, support, odd=odd, swapped=swapped)
    weight = masked.fill(support.weight, support.mask).astype(token.dtype)
    return encoder.apply(params['encoder'], token, weight)

  return Network(init, apply)


def latent_encoder(num_features: int, sizes: Sizes, num_outputs: int, *, odd: bool) -> Network:
  """Returns the network `(params, support, swapped=False) -> [num_outputs]`: the mean, read out.

  Raises:
    ValueError: as `pair_encoder`.
  """
  encoder = pair_encoder(num_features, sizes, odd=odd)
  readout = mlp(sizes.width, (sizes.hidden,), num_outputs)

  def init(key):
    key_encoder, key_readout = jax.random.split(key)
    return {**encoder.init(key_encoder), 'readout': readout.init(key_readout)}

  def apply(params, support, swapped=False):
    return readout.apply(params['readout'], encoder.apply(params, support, swapped))

  return Network(init, apply)
