"""Light user models: soft tokens e_u [T_u, W] that stand before a user's prompts.

Rows of known users are 0..U-1, and every other row is a user of whom nothing is known.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from metapers.core.types import Array, Bool, Callable, Float, Int, Params, PRNGKey, Scalar
from metapers.learners import inner_loop, options

USER_MODELS = ('uniform', 'individual', 'cluster')
TABLE_SCALE = 1e-2  # of the first cluster logits around 0
# From 1/4 to 1,024; 1 is the first, and so of equal ones the choice.
SHARPNESS = (1.0, *(float(2 ** (step / 4)) for step in range(-8, 41)))


class UserModel(NamedTuple):
  """How users are embedded.

  init: `(key, vocabulary [V, W]) -> params`. generic: `(params) -> e_0 [T_u, W]`, who nothing is
  known of. known: `(params, row) -> e_i [T_u, W]`. prepare: `(params, nll) -> params`, what `fit`
  reads of the known users; nll is `(sharpness [S]) -> [S]`, that of their comparisons by scores
  times each sharpness. fit: `(params, loss) -> e [T_u, W]` of a new user, whose loss is that of the
  comparisons, a sum in nats, `(e, sharpness=1) -> scalar`.
  """

  init: Callable[..., Params]
  generic: Callable[..., Array]
  known: Callable[..., Array]
  prepare: Callable[..., Params]
  fit: Callable[..., Array]


class UserState(NamedTuple):
  """What stands between the beginning of a text and the prompt.

  soft: [T_u, W] embeddings. text: [C] tokens of what the user says of themselves. mask: [C], True
  where a token is real.
  """

  soft: Float[Array, '*batch T_u W']
  text: Int[Array, '*batch C']
  mask: Bool[Array, '*batch C']


def uniform(num_tokens: int) -> UserModel:
  """Returns the model that does not tell users apart: e_u = e_0; without tokens it adds nothing."""

  def init(key, vocabulary):
    return {'generic': rows_of(key, vocabulary, num_tokens)}

  def known(params, row):
    del row
    return params['generic']

  def fit(params, loss):
    del loss
    return params['generic']

  return UserModel(init, lambda params: params['generic'], known, lambda params, _: params, fit)


def individual(
  num_users: int,
  num_tokens: int,
  *,
  num_directions: int = 8,
  shrinkage: float = 1.0,
  inner_steps: int = 20,
  offset_scale: float = 0.0,
) -> UserModel:
  """Returns e_i = e_0 + o_i, with o_i = 0 at the start, or at random.

  A new user's e = e_0 + B z minimises loss(e) + ½ λ |z|², from z = 0 on. B are the directions in
  which the known users' offsets are large, `directions`: z is under their own distribution.

  Args:
    num_users: U.
    num_tokens: T_u.
    num_directions: columns of B, at most U.
    shrinkage: λ; 1 is the known users' spread.
    inner_steps: of a new user's fit, each halved where it is too long; 0 leaves e_0.
    offset_scale: standard deviation of o_i at the start, in that of the vocabulary's embeddings. At
      0 users are alike, and a model that does not yet read soft tokens has nothing to tell them
      apart by: where what they like is subtle, that start is hard to leave.

  Raises:
    ValueError: for an option out of range.

  Reference:
    Li et al. 2024, arXiv:2402.05133, example 2. Unlike its code, offsets start at 0 unless
    asked otherwise, and new users are fitted.
  """
  options.at_least_one(num_users=num_users, num_tokens=num_tokens, num_directions=num_directions)
  options.positive(shrinkage=shrinkage)
  options.not_negative(inner_steps=inner_steps, offset_scale=offset_scale)
  size = min(num_directions, num_users)

  def init(key, vocabulary):
    width, dtype = vocabulary.shape[1], vocabulary.dtype
    shape = num_users, num_tokens, width
    offsets = jnp.zeros(shape, dtype)
    if offset_scale:
      drawn = jax.random.normal(jax.random.fold_in(key, 9), shape, dtype)
      offsets = offset_scale * jnp.std(vocabulary) * drawn
    return {
      'generic': rows_of(key, vocabulary, num_tokens),
      'offsets': offsets,
      'directions': jnp.zeros((size, num_tokens, width), dtype),
    }

  def known(params, row):
    row = jnp.where(row < 0, num_users, row)  # else it counts from the end
    return params['generic'] + params['offsets'].at[row].get(mode='fill', fill_value=0)

  def prepare(params, nll):
    del nll
    return {**params, 'directions': directions(jnp.asarray(params['offsets']), size)}

  def fit(params, loss):
    basis = jax.lax.stop_gradient(params['directions'])

    def embedding(z):
      return params['generic'] + jnp.tensordot(z, basis, 1)

    def objective(z):
      return loss(embedding(z)) + 0.5 * shrinkage * z @ z

    z = jnp.zeros(size, basis.dtype)
    return embedding(inner_loop.fit(objective, z, 1 / shrinkage, num_steps=inner_steps))

  return UserModel(init, lambda params: params['generic'], known, prepare, fit)


def cluster(num_users: int, num_tokens: int, *, num_clusters: int = 10) -> UserModel:
  """Returns e_i = softmax(a_i) V, whose last row of a is that of unknown users.

  A new user has softmax(a_0 - loss(V_k, s)), the posterior of the clusters given the comparisons,
  for the prior softmax(a_0): one pass over them for each cluster, and no gradient. s, by which
  scores are multiplied, is what explains the known users' choices best, of which the model was
  trained: how large scores are depends on β and on how long that was.

  Args:
    num_users: U.
    num_tokens: T_u.
    num_clusters: rows of V, K.

  Raises:
    ValueError: for an option out of range.

  Reference:
    Li et al. 2024, arXiv:2402.05133, example 3. Unlike its code, logits start near 0 and new users
    are fitted. Start it from individuals: see `clusters.from_individuals`.
  """
  options.at_least_one(num_users=num_users, num_tokens=num_tokens, num_clusters=num_clusters)

  def init(key, vocabulary):
    key_logits, key_clusters = jax.random.split(key)
    logits = jax.random.normal(key_logits, (num_users + 1, num_clusters), vocabulary.dtype)
    rows = rows_of(key_clusters, vocabulary, num_clusters * num_tokens)
    clusters = rows.reshape(num_clusters, num_tokens, -1)
    sharpness = jnp.ones((), vocabulary.dtype)
    return {'logits': TABLE_SCALE * logits, 'clusters': clusters, 'sharpness': sharpness}

  def mixed(params, logits):
    return jnp.tensordot(jax.nn.softmax(logits), params['clusters'], 1)

  def known(params, row):
    row = jnp.where(row < 0, num_users, jnp.minimum(row, num_users))
    return mixed(params, params['logits'][row])

  def prepare(params, nll):
    tried = jnp.asarray(SHARPNESS, params['sharpness'].dtype)
    return {**params, 'sharpness': tried[jnp.argmin(nll(tried))]}

  def fit(params, loss):
    losses = jax.lax.map(lambda soft: loss(soft, params['sharpness']), params['clusters'])
    return mixed(params, params['logits'][-1] - losses)

  def generic(params):
    return mixed(params, params['logits'][-1])

  return UserModel(init, generic, known, prepare, fit)


def rows_of(
  key: PRNGKey, vocabulary: Float[Array, 'V W'], num_tokens: int
) -> Float[Array, 'T_u W']:
  """Returns random rows of a vocabulary's embeddings, distinct where there are enough."""
  size = vocabulary.shape[0]
  order = jax.random.permutation(key, size)
  return vocabulary[jnp.resize(order, (num_tokens,))]


def directions(offsets: Float[Array, 'U T_u W'], size: int) -> Float[Array, 'S T_u W']:
  """Returns B: rows with B' B ≈ Σ_i o_i o_i' / U, by the S largest singular values.

  An offset is B' z with z of second moment I over the known users, so that |z|² / 2 is minus the
  log-density of a Gaussian fitted to them.
  """
  flat = offsets.reshape(offsets.shape[0], -1)
  _, values, rows = jnp.linalg.svd(flat, full_matrices=False)
  scaled = values[:size, None] * rows[:size] / jnp.sqrt(jnp.float32(offsets.shape[0]))
  return scaled.reshape(size, *offsets.shape[1:]).astype(offsets.dtype)


def effective_clusters(logits: Float[Array, 'U K']) -> Scalar:
  """Returns exp(H(mean_i softmax(a_i))): of how many equally large clusters users would be."""
  share = jax.nn.softmax(logits, -1).mean(0)
  return jnp.exp(jnp.sum(jax.scipy.special.entr(share)))
