"""Collaborative filtering on the graph of users and what they chose: embeddings of neighbours."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metapers.core import masked, meta_learner, task
from metapers.core import outcomes as answering
from metapers.core.meta_learner import MetaLearner
from metapers.core.task import Choices
from metapers.core.types import Array, Bool, Float, Int
from metapers.learners import options, user_bank
from metapers.learners import pooled as baselines
from metapers.learners.user_bank import Agreement
from metapers.learners.utility import negative_log_likelihood, utilities, utility_network

NUM_HASHES = 2
BITS = 24  # of each: integers that float32 holds exactly
WHOLE = 2048  # below it float16 holds all whole numbers: those of items stay apart
SEED = 0


class SharedAgreement(NamedTuple):
  """What a support says of each known user.

  agreement: ℓ [U] and n, as in `lookup`. shared: how often a response was chosen that the known
  user chose as well, [U], by weight.
  """

  agreement: Agreement
  shared: Float[Array, 'U']


def copl(
  num_features: int,
  num_histories: int,
  history_length: int,
  outcomes: Sequence[str] = (),
  *,
  hidden: Sequence[int] = (64, 64),
  num_layers: int = 4,
  temperature: float = 0.07,
  two_hop: bool = False,
  ridge: float = 1.0,
  inner_steps: int = 6,
) -> MetaLearner:
  """Returns CoPL: u(x) = m(x) + e_u·x, a new user's e_u = Σ_b p_b e_b being of known users.

  `prepare` fits each known user's own e_b⁰ as `lookup` does, on top of the pooled utility m, which
  alone the loss trains, and then lets the embeddings pass over the graph of users and responses,
  whose edges are a_bi = +weight where user b chose i and -weight where they chose another:

    e_i = Σ_b a_bi e_b / Σ_b |a_bi|,  e_b ← Σ_i a_bi e_i / Σ_i |a_bi|,  `num_layers` times;

  e_b is the mean over the start and all layers. A user none of whose responses another one saw
  stays as they are. Without any optimisation, a support D of total weight n gives

    p_b ∝ exp(log P_b(D) / (n · temperature)),

  over all known users, or those at two hops, who chose a response that the new user chose; all
  where there are none. Responses are the same where their features are, as `fingerprints` reads
  them. Of answers that are no plain choice, which count in the likelihoods as they are, the graph
  holds the pairs that `outcomes.as_pairs` makes of them: a text that is much better was chosen, and
  of a tie or of two bad ones neither. The user state is log P_b(D), n and how much is shared.

  Args:
    num_features: D.
    num_histories: U, the known users whose histories `prepare` is given.
    history_length: comparisons of a history, of which the graph is kept.
    outcomes: kinds of answers beside the plain choice, see `core.outcomes`.
    hidden: widths of the hidden layers of m.
    num_layers: of the graph; 0 for no graph; 4 as published.
    temperature: of the mean log-likelihood; 0.07 as published.
    two_hop: whether only those at two hops are neighbours, as published.
    ridge: prior precision of e_b⁰.
    inner_steps: Newton steps of each known user's fit.

  Raises:
    ValueError: for an option out of range.

  Reference:
    Choi et al. 2025, arXiv:2503.01658 (EMNLP). There embeddings of 512 and the weights of four
    layers are trained on ids (learning rate 1e-4, 100 epochs), and a language model with mixed
    low-rank adapters reads them. Unlike there, embeddings are penalised heads of features, so that
    responses nobody has seen can be scored, layers only average, as in He et al. 2020,
    arXiv:2002.02126, with signs, and all known users are neighbours unless `two_hop`. Against
    `lookup`: embeddings are mixed, not predictions, by the mean likelihood and not the sum.
  """
  options.at_least_one(num_histories=num_histories, history_length=history_length)
  options.at_least_one(inner_steps=inner_steps)
  options.positive(ridge=ridge, temperature=temperature)
  options.not_negative(num_layers=num_layers)
  kinds = answering.of_names(outcomes)
  network = utility_network(num_features, hidden)
  pooled = baselines.pooled(num_features, hidden=hidden)
  scores = functools.partial(user_bank.utilities_of, network)
  share = functools.partial(shares, temperature=temperature, two_hop=two_hop)

  def init(key):
    heads = jnp.zeros((num_histories, num_features), jnp.float32)
    chosen = jnp.zeros((num_histories, history_length, NUM_HASHES), jnp.float32)
    bank = {'heads': heads, 'is_used': heads[:, 0], 'chosen': chosen}
    return {'pooled': network.init(key), 'bank': bank}

  @jax.jit
  def prepare(params, histories, key):
    del key
    user_bank.check_number(histories, num_histories, name='copl')
    offset = functools.partial(utilities, network, params['pooled'])
    bank = user_bank.fit_bank(offset, histories, ridge, inner_steps)
    pairs = answering.as_pairs(histories.support, kinds, 'dropped')
    heads = propagated(bank.heads, pairs, num_layers=num_layers)
    chosen = chosen_fingerprints(pairs)
    return params | {'bank': {'heads': heads, 'is_used': bank.is_used, 'chosen': chosen}}

  def adapt(params, support, context, key):
    del context, key
    bank = params['bank']
    nll = jax.vmap(negative_log_likelihood, (0, None))(
      scores(params, bank['heads'], support.candidates), support
    )
    shared = shared_weight(bank['chosen'], answering.as_pairs(support, kinds, 'dropped'))
    return SharedAgreement(Agreement(-nll, task.total_weight(support)), shared)

  def update(params, user_state, comparison, context, key):
    return jax.tree.map(jnp.add, user_state, adapt(params, comparison, context, key))

  def score(params, user_state, candidates):
    bank = params['bank']
    embedding = share(user_state, bank['is_used'] > 0) @ bank['heads']
    return scores(params, embedding[None], candidates)[0]

  def loss(params, episode, key):
    return pooled.loss(params['pooled'], episode, key)

  return meta_learner.from_adapt_score(
    init, adapt, score, loss=loss, prepare=prepare, update=update
  )


def shares(
  evidence: SharedAgreement, is_used: Bool[Array, 'U'], *, temperature: float, two_hop: bool
) -> Float[Array, 'U']:
  """Returns p_b of each known user; see `copl`."""
  log_likelihood, weight = evidence.agreement
  mean = log_likelihood / masked.or_one(weight)
  near = is_used & (evidence.shared > 0)
  near = jnp.where(two_hop & near.any(), near, is_used)
  smallest = float(jnp.finfo(mean.dtype).min)
  return jax.nn.softmax(masked.fill(mean / temperature, near, smallest))


def propagated(
  embeddings: Float[Array, 'U H'], known: Choices, *, num_layers: int
) -> Float[Array, 'U H']:
  """Returns users' embeddings after the layers of the graph, see `copl`.

  Args:
    embeddings: e⁰.
    known: comparisons of the same users, [U, N, K, D].
    num_layers: 0 gives e⁰.
  """
  num_users = embeddings.shape[0]
  items = same_items(fingerprints(known.candidates.features)).reshape(num_users, -1)  # [U, E]
  edges = signed_edges(known).reshape(num_users, -1)
  of_item = jax.ops.segment_sum(jnp.abs(edges).ravel(), items.ravel(), items.size)
  of_user = jnp.abs(edges).sum(1)

  def layer(previous, _):
    messages = edges[..., None] * previous[:, None]
    summed = jax.ops.segment_sum(messages.reshape(items.size, -1), items.ravel(), items.size)
    of_items = summed / masked.or_one(of_item)[:, None]
    received = jnp.einsum('ue,ueh->uh', edges, of_items[items])
    linked = (of_user > 0)[:, None]  # others stay as they are
    after = jnp.where(linked, received / masked.or_one(of_user)[:, None], previous)
    return after, after

  _, layers = jax.lax.scan(layer, embeddings, length=num_layers)
  return (embeddings + layers.sum(0)) / (1 + num_layers)


def signed_edges(known: Choices) -> Float[Array, 'U N K']:
  """Returns the weight of each comparison at the chosen candidate, and minus it at the others."""
  is_real = known.candidates.mask & known.mask[..., None]
  sign = jnp.where(task.chosen_mask(known), 1.0, -1.0)
  return masked.fill(sign * known.weight[..., None], is_real)


def same_items(keys: Float[Array, '*batch hashes']) -> Int[Array, '*batch']:
  """Returns a number for each item [*batch], the same for those of the same fingerprint."""
  flat = keys.reshape(-1, keys.shape[-1])
  order = jnp.lexsort(flat.T)
  ordered = flat[order]
  is_new = jnp.any(ordered[1:] != ordered[:-1], -1)
  numbers = jnp.append(0, jnp.cumsum(is_new, dtype=jnp.int32))
  return jnp.zeros(order.size, jnp.int32).at[order].set(numbers).reshape(keys.shape[:-1])


def shared_weight(chosen: Float[Array, 'U N hashes'], given: Choices) -> Float[Array, 'U']:
  """Returns the weight of the comparisons whose chosen item each known user chose, too."""
  is_same = chosen[:, :, None] == chosen_fingerprints(given)[None, None]
  weight = masked.fill(given.weight, given.mask)
  return is_same.all(-1).any(1).astype(weight.dtype) @ weight


def chosen_fingerprints(given: Choices) -> Float[Array, '*T N hashes']:
  """Returns the fingerprints of what was chosen; -1, of no item, where masked or of weight 0."""
  keys = fingerprints(given.candidates.features)
  chosen = jnp.take_along_axis(keys, given.choice[..., None, None], -2)[..., 0, :]
  counts = given.mask & (given.weight > 0)
  return masked.fill(chosen, jnp.broadcast_to(counts[..., None], chosen.shape), -1.0)


def fingerprints(features: Float[Array, '*batch D']) -> Float[Array, '*batch hashes']:
  """Returns hashes of features, integers below 2²⁴ each.

  Of their bits in float16, in which profiles keep what was shown: items that agree in it are one.
  No profile keeps numbers from WHOLE up (they would be thousands of standard deviations): those of
  items, say, which are read in float32. Two others are taken for one in about one of 2⁴⁸ pairs.
  """
  narrow, wide = features.astype(jnp.float16), features.astype(jnp.float32)
  narrow = jnp.where(narrow == 0, jnp.float16(0), narrow)  # of the two zeros one
  bits = jnp.where(
    jnp.abs(wide) < WHOLE,
    jax.lax.bitcast_convert_type(narrow, jnp.uint16).astype(jnp.uint32),
    jax.lax.bitcast_convert_type(wide, jnp.uint32),
  )
  draw = np.random.default_rng(SEED).integers
  salts = draw(2**32, size=(NUM_HASHES, features.shape[-1]), dtype=np.uint32)
  sums = [
    jnp.sum(mixed(bits + jnp.broadcast_to(salt, bits.shape)), -1, dtype=jnp.uint32)
    for salt in salts
  ]
  # Floats, for parameters are differentiated as they stand.
  return jnp.stack([(each >> (32 - BITS)).astype(jnp.float32) for each in sums], -1)


def mixed(bits: Array) -> Array:
  """Returns uint32 each bit of which depends on all those given: the last step of MurmurHash3."""
  for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
    bits = (bits ^ (bits >> shift)) * np.uint32(factor)
  return bits ^ (bits >> 16)
