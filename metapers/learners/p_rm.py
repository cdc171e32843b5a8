"""P-RLHF's reward model: one light user model, trained jointly with the reward model it informs."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metapers.core import choice_model, masked, meta_learner, task
from metapers.core.meta_learner import MetaLearner
from metapers.core.types import Array, Callable, Float, Params, Scalar
from metapers.learners import inner_loop, newton, options
from metapers.learners.utility import embed, negative_log_likelihood
from metapers.networks.linear_mlp import linear_mlp

SMALLEST = 1e-6  # spread of the known users
USER_MODELS = ('individual', 'cluster', 'uniform')


class UserModel(NamedTuple):
  """How users are embedded; rows from U on are unknown users.

  init: `(key) -> params`. generic: `(params) -> e_0 [H]`, who nothing is known of. known: `(params,
  row) -> (e_i [H], penalty)`, the penalty in nats. fit: `(params, scores, support) -> e [H]` of a
  new user, with `scores` [N, K, H] what each entry of e multiplies.
  """

  init: Callable[..., Params]
  generic: Callable[..., Array]
  known: Callable[..., tuple[Array, Array]]
  fit: Callable[..., Array]


def p_rm(
  num_features: int,
  num_users: int,
  *,
  num_context: int = 0,
  use_text: bool = True,
  user_model: str = 'individual',
  hidden: Sequence[int] = (64,),
  width: int = 16,
  num_clusters: int = 5,
  alpha: float = 0.5,
  shrinkage: float = 1.0,
  inner_steps: int = 20,
) -> MetaLearner:
  """Returns r(x, u) = φ(x)·(e_u + A c_u): φ is shared, e_u a user's embedding, c_u their own text.

  A user model gives e_u: 'individual' e_0 + o_i, 'cluster' softmax(a_i) V, or 'uniform' e_0, where
  e_0 (or softmax(a_0) V) is generic, of whoever is unknown. All is trained jointly by

    loss = α (NLL(e_i) + ½ λ/n ‖o_i‖²) + (1 - α) NLL(e_0),

  n being the weight of the comparisons, so that summed over users it is a Gaussian prior on o_i
  (or on a_i - a_0), in units that φ is free to choose. A new user's are therefore measured by those
  of the known ones: with s² the mean square of all their entries, e minimises
  NLL(support) + ½ λ/s² ‖o‖², from the generic one on, which it is without a support. The user state
  is e_u + A c_u [H].

  Args:
    num_features: D.
    num_users: U, the known users; a finite population is needed, but for 'uniform'.
    num_context: C, the width of the features of a user's own text; 0 without any. The text enters
      the individual and the generic reward alike.
    use_text: whether it does; else the text is not read.
    user_model: 'individual', 'cluster' or 'uniform'.
    hidden: widths of φ's hidden layers.
    width: H, of the embeddings.
    num_clusters: columns of a, rows of V.
    alpha: α in [0, 1], the share of the individual loss; 0 is a pooled model.
    shrinkage: λ.
    inner_steps: of a new user's fit: Newton steps for individuals, halving gradient steps for
      clusters. 0 leaves new users at the generic embedding, as in the paper.

  Raises:
    ValueError: if there are no known users to embed, or for an option out of range.

  Reference:
    Li et al. 2024, arXiv:2402.05133. Unlike the paper, e weighs features of x, where there it is
    soft tokens of a language model; offsets start at 0 and are shrunk; new users are fitted.
  """
  options.at_least_one(width=width, num_clusters=num_clusters)
  options.positive(shrinkage=shrinkage)
  _check(alpha, inner_steps, user_model, num_users)
  models = {
    'individual': lambda: individual(num_users, width, shrinkage, inner_steps),
    'cluster': lambda: cluster(num_users, width, num_clusters, shrinkage, inner_steps),
    'uniform': lambda: uniform(width),
  }
  users = models[user_model]()
  has_text = bool(num_context) and use_text
  network = linear_mlp(num_features, hidden, width)

  def init(key):
    key_reward, key_users = jax.random.split(key)
    text = jnp.zeros((num_context, width), jnp.float32)
    params = {'reward': network.init(key_reward), 'users': users.init(key_users)}
    return params | ({'text': text} if has_text else {})

  def own_text(params, context):
    return context @ params['text'] if has_text else jnp.zeros(width, jnp.float32)

  def adapt(params, support, context, key):
    del key
    features = embed(network, params['reward'], support.candidates)
    text = own_text(params, context)
    return text + users.fit(params['users'], features, features @ text, support)

  def score(params, user_state, candidates):
    return embed(network, params['reward'], candidates) @ user_state

  def loss(params, episode, key):
    del key
    everything = task.concat(episode.support, episode.query)
    features = embed(network, params['reward'], everything.candidates)
    text = own_text(params, episode.context)

    def log_p(embedding):
      return choice_model.log_probs(features @ (embedding + text), everything.candidates.mask)

    known, penalty = users.known(params['users'], episode.user)
    individual, generic = log_p(known), log_p(users.generic(params['users']))
    metrics = meta_learner.query_metrics(individual, everything)
    of_user = metrics['nll'] + penalty / masked.or_one(task.total_weight(everything))
    return alpha * of_user + (1 - alpha) * choice_model.nll(generic, everything), metrics

  return meta_learner.from_adapt_score(init, adapt, score, loss=loss)


def individual(num_users: int, width: int, shrinkage: float, num_steps: int) -> UserModel:
  """Returns e_i = e_0 + o_i, with o_i = 0 at the start and under N(0, I / shrinkage)."""

  def init(key):
    offsets = jnp.zeros((num_users, width), jnp.float32)
    return {'generic': start(key, width), 'offsets': offsets}

  def generic(params):
    return params['generic']

  def known(params, row):
    offset = params['offsets'].at[row].get(mode='fill', fill_value=0)
    return params['generic'] + offset, 0.5 * shrinkage * offset @ offset

  def fit(params, features, given, support):
    scale = spread_of(params['offsets']) / jnp.sqrt(shrinkage)
    without = features @ params['generic'] + given
    offset = newton.mode(without, scale * features, support, num_steps=num_steps)
    return params['generic'] + scale * offset

  return UserModel(init, generic, known, fit)


def cluster(
  num_users: int, width: int, num_clusters: int, shrinkage: float, num_steps: int
) -> UserModel:
  """Returns e_i = softmax(a_i) V, a_i under N(a_0, I / shrinkage); the last row is a_0."""

  def init(key):
    key_logits, key_clusters = jax.random.split(key)
    logits = jax.random.normal(key_logits, (num_users + 1, num_clusters), jnp.float32)
    clusters = jax.vmap(start, (0, None))(jax.random.split(key_clusters, num_clusters), width)
    return {'logits': logits, 'clusters': clusters}

  def generic(params):
    return jax.nn.softmax(params['logits'][-1]) @ params['clusters']

  def distance(params, logits, precision):
    off = logits - params['logits'][-1]
    return 0.5 * precision * off @ off

  def known(params, row):
    logits = params['logits'][jnp.minimum(row, num_users)]
    return jax.nn.softmax(logits) @ params['clusters'], distance(params, logits, shrinkage)

  def fit(params, features, given, support):
    each = features @ params['clusters'].T  # [N, K, clusters]
    spread = spread_of(params['logits'][:-1] - params['logits'][-1:])
    precision = shrinkage / spread**2

    def objective(logits):
      scores = each @ jax.nn.softmax(logits) + given
      return negative_log_likelihood(scores, support) + distance(params, logits, precision)

    rate = 1 / precision  # a Newton step of the prior; halved where it is too long
    logits = inner_loop.fit(objective, params['logits'][-1], rate, num_steps=num_steps)
    return jax.nn.softmax(logits) @ params['clusters']

  return UserModel(init, generic, known, fit)


def uniform(width: int) -> UserModel:
  """Returns e_i = e_0 of everyone: a model that does not tell users apart but by their text."""

  def generic(params):
    return params['generic']

  def known(params, row):
    del row
    return params['generic'], jnp.zeros((), jnp.float32)

  def fit(params, features, given, support):
    del features, given, support
    return params['generic']

  return UserModel(lambda key: {'generic': start(key, width)}, generic, known, fit)


def spread_of(offsets: Float[Array, 'U H']) -> Scalar:
  """Returns the root mean square of what tells known users apart, who may all be alike."""
  return jnp.maximum(jnp.sqrt(jnp.mean(offsets**2)), SMALLEST)


def start(key: Array, width: int) -> Float[Array, 'H']:
  """Returns a random embedding of norm about 1."""
  return jax.random.normal(key, (width,), jnp.float32) / jnp.sqrt(width)


def _check(alpha: float, inner_steps: int, user_model: str, num_users: int) -> None:
  if not 0 <= alpha <= 1:
    raise ValueError(f'alpha must be in [0, 1], got {alpha}')
  options.not_negative(inner_steps=inner_steps)
  if user_model not in USER_MODELS:
    raise ValueError(f'user_model must be one of {", ".join(USER_MODELS)}, got {user_model!r}')
  if num_users < 1 and user_model != 'uniform':
    raise ValueError(
      'p_rm embeds known users, and this population has none: set its num_users (a finite pool) '
      "to at least 1, or user_model='uniform'"
    )
