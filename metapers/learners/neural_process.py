"""Neural processes: a network reads the support and writes the user state, without any descent.

Each comparison becomes a token: the chosen candidate's embedding minus the mean of the others'. Of
two candidates that is all that a linear utility can know of a comparison, of more it is less: of a
tie (`core.outcomes`) a linear embedding leaves the flag alone, and where both texts can be called
bad a part of their sum, but nothing of their difference, which only hidden layers can let through.
A deep set sums the tokens' codes: order cannot matter, and each further comparison is further
evidence.
"""

import jax
import jax.numpy as jnp

from metapers.core import choice_model, masked, meta_learner, task
from metapers.core.meta_learner import MetaLearner
from metapers.core.task import Choices
from metapers.core.types import Array, Float, Params
from metapers.learners import options
from metapers.learners.utility import embed, negative_log_likelihood
from metapers.networks.linear_mlp import linear_mlp
from metapers.networks.mlp import mlp
from metapers.networks.network import Network


def sides(
  embedding: Float[Array, 'N K H'], support: Choices
) -> tuple[Float[Array, 'N H'], Float[Array, 'N H']]:
  """Returns φ(chosen) and mean φ(not chosen) of each comparison, [N, H]; zeros where masked."""
  chosen = task.chosen_mask(support)[..., None]
  others = (support.candidates.mask & support.mask[:, None])[..., None] & ~chosen
  chosen, others = (jnp.broadcast_to(part, embedding.shape) for part in (chosen, others))
  return masked.total(embedding, chosen, 1), masked.mean(embedding, others, 1)


def tokens(embedding: Float[Array, 'N K H'], support: Choices) -> Float[Array, 'N H']:
  """Returns φ(chosen) - mean φ(not chosen) of each comparison, [N, H]; zeros where masked."""
  chosen, others = sides(embedding, support)
  return chosen - others


def summed_code(
  encoder: Network, params: Params, token: Float[Array, 'N H'], support: Choices
) -> Float[Array, 'width']:
  """Returns Σ weight_n code(token_n) / √(1 + n) and log(1 + n), n = Σ weight_n: `[H + 1]`.

  The scale keeps the input of what follows in range; n restores what it takes away.
  """
  codes = encoder.apply(params, token) * support.weight[:, None]
  real = jnp.broadcast_to(support.mask[:, None], codes.shape)
  count = task.total_weight(support).astype(codes.dtype)
  code = masked.total(codes, real, 0) / jnp.sqrt(1 + count)
  return jnp.append(code, jnp.log1p(count))


def set_encoder(num_features: int, hidden: int, width: int, num_outputs: int) -> Network:
  """Returns a network support -> `[num_outputs]`: embed, token, code, sum, read out.

  Args:
    num_features: D.
    hidden: width of the hidden layers.
    width: H of the embedding whose differences are the tokens.
    num_outputs: what is read out.

  Returns:
    Network whose apply takes (params, support).
  """
  embedding = linear_mlp(num_features, (hidden,), width)
  encoder = mlp(width, (hidden,), hidden)
  readout = mlp(hidden + 1, (hidden, hidden), num_outputs)

  def init(key):
    names = ('embedding', 'encoder', 'readout')
    networks = (embedding, encoder, readout)
    keys = jax.random.split(key, len(names))
    return {name: network.init(k) for name, network, k in zip(names, networks, keys, strict=True)}

  def apply(params, support):
    embedded = embed(embedding, params['embedding'], support.candidates)
    token = tokens(embedded, support)
    code = summed_code(encoder, params['encoder'], token, support)
    return readout.apply(params['readout'], code)

  return Network(init, apply)


def decoder(num_features: int, hidden: int, width: int) -> Network:
  """Returns the network (z, candidates) -> u(x) = z·φ(x) + MLP([z, φ(x)]) [N, K], with Z = H."""
  embedding = linear_mlp(num_features, (hidden,), width)
  correction = mlp(2 * width, (hidden,), 1)

  def init(key):
    key_embedding, key_correction = jax.random.split(key)
    return {
      'embedding': embedding.init(key_embedding),
      'correction': correction.init(key_correction),
    }

  def apply(params, z, candidates):
    features = embed(embedding, params['embedding'], candidates)  # [N, K, H]
    joined = jnp.concatenate([features, jnp.broadcast_to(z, features.shape)], -1)
    return features @ z + correction.apply(params['correction'], joined)[..., 0]

  return Network(init, apply)


def cnp(num_features: int, *, hidden: int = 128, width: int = 32) -> MetaLearner:
  """Returns the conditional neural process: z_u = encoder(support), u(x) = decoder(z_u, x).

  The user state is z_u [Z].

  Args:
    num_features: D.
    hidden: width of the hidden layers.
    width: Z, and the width of the embedding of a candidate.

  Reference:
    Garnelo et al. 2018, arXiv:1807.01613. Unlike the paper, codes are summed and not averaged.
  """
  options.at_least_one(hidden=hidden, width=width)
  encoder = set_encoder(num_features, hidden, width, width)
  decode = decoder(num_features, hidden, width)

  def init(key):
    key_encoder, key_decoder = jax.random.split(key)
    return {'encoder': encoder.init(key_encoder), 'decoder': decode.init(key_decoder)}

  def adapt(params, support, context, key):
    del context, key
    return encoder.apply(params['encoder'], support)

  def score(params, user_state, candidates):
    return decode.apply(params['decoder'], user_state, candidates)

  return meta_learner.from_adapt_score(init, adapt, score)


def latent_np(
  num_features: int, *, hidden: int = 128, width: int = 32, num_samples: int = 8
) -> MetaLearner:
  """Returns the latent neural process: z_u ~ N(μ(support), σ²(support)), by marginal likelihood.

  Loss: -log 1/S Σ_s Π_n P(choice_n | z_s) over the query, per comparison. Predictions average the S
  samples' probabilities, utilities their scores. The user state is the samples [S, Z].

  Args:
    num_features: D.
    hidden: width of the hidden layers.
    width: Z.
    num_samples: S.

  Reference:
    Garnelo et al. 2018, arXiv:1807.01622; the objective is NPML of Foong et al. 2020,
    arXiv:2007.01332.
  """
  options.at_least_one(hidden=hidden, width=width, num_samples=num_samples)
  encoder = set_encoder(num_features, hidden, width, 2 * width)
  decode = decoder(num_features, hidden, width)

  def init(key):
    key_encoder, key_decoder = jax.random.split(key)
    return {'encoder': encoder.init(key_encoder), 'decoder': decode.init(key_decoder)}

  def adapt(params, support, context, key):
    del context
    mean, spread = jnp.split(encoder.apply(params['encoder'], support), 2)
    noise = jax.random.normal(key, (num_samples, width), jnp.float32)
    return mean[None] + jax.nn.softplus(spread)[None] * noise

  def sampled_scores(params, user_state, candidates):
    return jax.vmap(lambda z: decode.apply(params['decoder'], z, candidates))(user_state)

  def score(params, user_state, candidates):
    return sampled_scores(params, user_state, candidates).mean(0)

  def predict(params, user_state, candidates):
    scores = sampled_scores(params, user_state, candidates)
    return choice_model.mean_probability(scores, candidates.mask)

  def loss(params, episode, key):
    user_state = adapt(params, episode.support, episode.context, key)
    scores = sampled_scores(params, user_state, episode.query.candidates)
    total = -jax.vmap(negative_log_likelihood, (0, None))(scores, episode.query)  # [S]
    count = masked.or_one(task.total_weight(episode.query))
    joint = (jax.nn.logsumexp(total) - jnp.log(num_samples)) / count
    marginal = choice_model.mean_probability(scores, episode.query.candidates.mask)
    return -joint, meta_learner.query_metrics(marginal, episode.query)

  return meta_learner.from_adapt_score(
    init, adapt, score, predict=predict, loss=loss, sample=sampled_scores
  )
