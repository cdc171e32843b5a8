"""Fast weights: a layer's weights are written to by comparisons, without any descent."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from metapers.core import masked, meta_learner
from metapers.core.meta_learner import MetaLearner
from metapers.learners import options
from metapers.learners.neural_process import tokens
from metapers.learners.utility import embed
from metapers.networks.linear_mlp import linear_mlp


def p_ttt(
  num_features: int,
  *,
  hidden: Sequence[int] = (),
  width: int = 32,
  initial_rate: float = 0.05,
) -> MetaLearner:
  """Returns P-TTT: u(x) = W_u k(x), with fast weights W_u = W_0 + η Σ_n weight_n (k⁺_n - k⁻_n)ᵀ.

  k(x) = V x (+ MLP(x)) is what enters the layer; k⁺ is that of the chosen candidate and k⁻ the mean
  of the others. W_0, k and η are trained by the query NLL after adapting; adapting itself is a sum.
  With K = 2, to flip all of a support's labels is to turn W_u - W_0, and with it the shift of every
  utility, into its negative, and a user's W_u - W_0 is that of one gradient step on the summed NLL
  from weights of zero, of size 2 η. With larger K the mean of the others stands for them all: of a
  tie (`core.outcomes`) a linear k writes the flag alone, with a part of the two texts' sum where
  both can be called bad, and nothing of how near they are. The user state is W_u - W_0 [H].

  Args:
    num_features: D.
    hidden: widths of the hidden layers of k; some need more known users than hundreds.
    width: H.
    initial_rate: η at the start.

  Raises:
    ValueError: for an option out of range.

  Reference:
    Wang et al. 2026 (P-TTT), preference-aligned test-time training. Unlike there, where rank-one
    updates η v (k⁺ - k⁻)ᵀ go into down-projections within a language model, the layer is the last
    one: its output is the utility, and v a number that η takes in.
  """
  options.at_least_one(width=width)
  options.positive(initial_rate=initial_rate)
  network = linear_mlp(num_features, hidden, width)

  def init(key):
    key_network, key_weights = jax.random.split(key)
    return {
      'keys': network.init(key_network),
      'weights': jax.random.normal(key_weights, (width,), jnp.float32) / jnp.sqrt(width),
      'log_rate': jnp.log(jnp.float32(initial_rate)),
    }

  def adapt(params, support, context, key):
    del context, key
    keys = embed(network, params['keys'], support.candidates)
    written = support.weight[:, None] * tokens(keys, support)
    real = jnp.broadcast_to(support.mask[:, None], written.shape)
    return jnp.exp(params['log_rate']) * masked.total(written, real, 0)

  def update(params, user_state, comparison, context, key):
    return user_state + adapt(params, comparison, context, key)

  def score(params, user_state, candidates):
    return embed(network, params['keys'], candidates) @ (params['weights'] + user_state)

  return meta_learner.from_adapt_score(init, adapt, score, update=update)
