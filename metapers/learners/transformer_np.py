"""Transformer neural processes: candidates attend to what comparisons left in a few slots."""

import jax
import jax.numpy as jnp

from metapers.core import meta_learner
from metapers.core.meta_learner import MetaLearner
from metapers.learners import options
from metapers.learners.pair_encoder import pair_encoder
from metapers.learners.utility import embed
from metapers.networks.attention import Sizes, cross_attention
from metapers.networks.linear_mlp import linear_mlp
from metapers.networks.mlp import mlp


def transformer_np(
  num_features: int,
  *,
  width: int = 64,
  hidden: int = 64,
  num_layers: int = 2,
  num_cross_layers: int = 1,
  num_heads: int = 4,
  num_slots: int = 8,
  odd: bool = True,
) -> MetaLearner:
  """Returns the transformer neural process: comparisons attend to each other, candidates to them.

  S learned slots read the comparisons, and are all that candidates attend to:

    z = slots(support) [S, H],  r(x) = attend(φ(x), z),  u(x) = r(x)·φ(x) + MLP([r(x), φ(x)]).

  Stands for both the attentive neural process (one block of attention to comparisons that attend to
  each other) and for group preference optimization (GPO; many blocks). GPO's published sizes are
  width 128, hidden 128, num_layers 6, num_heads 4. The user state is z [S, H].

  Args:
    num_features: D.
    width: H, of tokens, slots and φ.
    hidden: of the perceptrons.
    num_layers: blocks in which comparisons attend to each other; 0 for none.
    num_cross_layers: blocks in which candidates attend to the slots.
    num_heads: of each attention; must divide H.
    num_slots: S.
    odd: whether a comparison is the difference chosen - others, or both side by side.

  Raises:
    ValueError: for an option out of range.

  Reference:
    Kim et al. 2019, arXiv:1901.05761; Zhao et al. 2024 (GPO), arXiv:2310.11523; slots as of Lee et
    al. 2019, arXiv:1810.00825. Unlike the papers, candidates see comparisons through slots alone,
    so that what is stored of a user has one size; there is no latent path; a learned neutral token
    stands beside the comparisons; contexts are choices and not scores.
  """
  options.at_least_one(num_cross_layers=num_cross_layers, num_slots=num_slots)
  sizes = Sizes(width, hidden, num_layers, num_heads)
  encoder = pair_encoder(num_features, sizes, num_slots, odd=odd)
  attend = cross_attention(sizes._replace(num_layers=num_cross_layers))
  embedding = linear_mlp(num_features, (hidden,), width)
  correction = mlp(2 * width, (hidden,), 1)
  decoders = {'embedding': embedding, 'attend': attend, 'correction': correction}

  def init(key):
    key_encoder, *keys = jax.random.split(key, 1 + len(decoders))
    parts = zip(decoders.items(), keys, strict=True)
    decoder = {name: network.init(key_part) for (name, network), key_part in parts}
    return {'encoder': encoder.init(key_encoder), 'decoder': decoder}

  def adapt(params, support, context, key):
    del context, key
    return encoder.apply(params['encoder'], support)

  def score(params, user_state, candidates):
    decoder = params['decoder']
    features = embed(embedding, decoder['embedding'], candidates)  # [N, K, H]
    read = attend.apply(decoder['attend'], features, user_state)
    joined = jnp.concatenate([read, features], -1)
    return (read * features).sum(-1) + correction.apply(decoder['correction'], joined)[..., 0]

  return meta_learner.from_adapt_score(init, adapt, score)
