"""A learned bank of users, reweighted by what a new user chooses: a nonparametric prior."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from metapers.core import choice_model, masked, meta_learner, task
from metapers.core.meta_learner import MetaLearner
from metapers.core.task import Task
from metapers.core.types import Array, Float, PRNGKey, Scalar
from metapers.learners import options, particle_bank, user_bank
from metapers.learners.utility import embed
from metapers.networks.linear_mlp import linear_mlp

START_STEPS = 12  # Newton steps of each known user's fit, from whom the bank starts
COPY_SCALE = 0.3  # sd of what tells copies of one known user apart, where the bank is the larger
RIDGES = (0.05, 0.2, 1.0, 5.0, 20.0, 80.0)  # that are tried


def particle(
  num_features: int,
  *,
  hidden: Sequence[int] = (),
  width: int = 16,
  num_particles: int = 1024,
  init_scale: float = 3.0,
  ridge: float | None = 0.05,
  num_moves: int = 0,
  bandwidth: float = 0.3,
  num_samples: int = 64,
) -> MetaLearner:
  """Returns u(x) = v·φ(x) with v one of S learned vectors: P(v_s) = softmax(a)_s.

  Vectors and weights are trained by the marginal likelihood of all comparisons of a user,

      loss = -1/n log Σ_s P(v_s) Π_n P(choice_n | v_s)^weight_n,

  n their total weight, and φ with them: the nonparametric maximum likelihood estimate of the prior,
  on at most S points. A new user's posterior is exact: the bank is reweighted, and one more
  comparison costs the same whatever came before. Its metrics are those of the query after the
  support, by the bank as it is, without moves. The bank starts at what fits the known users one by
  one; with hidden layers, whose φ is still random, at random vectors. Vectors have far to go: train
  at a learning rate of about 0.03; where features leave much of the choices unexplained, at 0.003
  and with `ridge=None`.

  With `num_moves` the prior of a new user is a kernel around each vector, of whose posterior
  `particle_bank.moved` keeps the mode, found by that many Newton steps, and the evidence, by
  Laplace's approximation: a new user is one of the modes, not spread about them, and without
  comparisons one of the bank as it is.

  Args:
    num_features: D.
    hidden: widths of φ's hidden layers; none leaves φ(x) = x.
    width: H of φ with hidden layers.
    num_particles: S; the state holds S numbers, and with moves S vectors.
    init_scale: sd of random vectors: choices are as good as noiseless where it is large.
    ridge: precision of the prior under which known users are fitted for the start; None for the one
      of RIDGES by which half of a known user's comparisons predict the other half best.
    num_moves: Newton steps of each vector; 0 leaves the bank where it is.
    bandwidth: h of the kernels N(v_s, h² I), where there are moves.
    num_samples: draws of `sample`.

  Raises:
    ValueError: for an option out of range.

  Reference:
    Kiefer and Wolfowitz 1956 (Annals of Mathematical Statistics 27(4)) and Laird 1978 (JASA
    73(364)), the nonparametric prior; Robbins 1956, empirical Bayes. Unlike there, the estimate is
    by stochastic gradients, on a number of points that is given.
  """
  options.at_least_one(num_particles=num_particles, width=width, num_samples=num_samples)
  given = {} if ridge is None else {'ridge': ridge}
  options.positive(init_scale=init_scale, bandwidth=bandwidth, **given)
  options.not_negative(num_moves=num_moves)
  network = linear_mlp(num_features, hidden, width) if hidden else None

  def init(key):
    key_bank, key_network = jax.random.split(key)
    shape = num_particles, width if network else num_features
    heads = init_scale * jax.random.normal(key_bank, shape, jnp.float32)
    bank = particle_bank.Bank(heads, jnp.zeros(num_particles, jnp.float32))._asdict()
    return {'bank': bank} | ({'features': network.init(key_network)} if network else {})

  def features(params, candidates):
    return embed(network, params['features'], candidates) if network else candidates.features

  def start(params, histories, key):
    if network or not histories.user.size:
      return params
    heads = start_heads(histories, num_particles, ridge, key)
    return params | {'bank': params['bank'] | {'heads': heads}}

  def moved(params, support, context):
    del context
    factors, bank = features(params, support.candidates), particle_bank.stored(params)
    return particle_bank.moved(bank, factors, support, bandwidth=bandwidth, num_steps=num_moves)

  def loss(params, episode, key):
    del key
    everything = task.concat(episode.support, episode.query)
    heads, log_prior = params['bank']['heads'], jax.nn.log_softmax(params['bank']['log_weights'])
    said = [
      particle_bank.log_likelihoods(heads, features(params, given.candidates), given).sum(0)
      for given in (episode.support, episode.query)
    ]
    evidence = jax.nn.logsumexp(log_prior + sum(said))
    user_state = particle_bank.BankLikelihood(said[0], ())
    log_p = reweighted.predict(params, user_state, episode.query.candidates)
    metrics = meta_learner.query_metrics(log_p, episode.query)
    return -evidence / masked.or_one(task.total_weight(everything)), metrics

  reweighted = particle_bank.learner(init, features, num_samples=num_samples)
  return particle_bank.learner(
    init,
    features,
    num_samples=num_samples,
    infer=moved if num_moves else None,
    loss=loss,
    start=start,
  )


def start_heads(
  histories: Task, num_particles: int, ridge: float | None, key: PRNGKey
) -> Float[Array, 'S D']:
  """Returns what fits the known users one by one, over and over with noise until there are S."""
  fitted = fits(histories, best_ridge(histories) if ridge is None else ridge)
  turn, rows = jnp.divmod(jnp.arange(num_particles, dtype=jnp.int32), fitted.shape[0])
  noise = COPY_SCALE * jax.random.normal(key, (num_particles, fitted.shape[1]), jnp.float32)
  return fitted[rows] + (turn > 0)[:, None] * noise


def fits(histories: Task, ridge: float | Scalar) -> Float[Array, 'U D']:
  """Returns the minimum over v of NLL(history) + ½ ridge ‖v‖² of each known user."""

  def nothing(candidates):
    return jnp.zeros(candidates.mask.shape, jnp.float32)

  return user_bank.fit_bank(nothing, histories, ridge, START_STEPS).heads


def best_ridge(histories: Task) -> Scalar:
  """Returns the one of RIDGES by which two in four comparisons of a user predict the rest best.

  A bank of fits to few, noisy comparisons is one of their noise, which training does not undo: each
  known user goes on to be explained by the own fit. Two by two, for the halves of a tie, which
  contradict each other, stand side by side (`outcomes.as_pairs`).
  """
  every = histories.support
  is_given = jnp.arange(every.mask.shape[1])[None] // 2 % 2 == 0
  given = histories._replace(support=every._replace(mask=every.mask & is_given))
  asked = every._replace(mask=every.mask & ~is_given)

  def nll_of(head, choices):
    log_p = choice_model.log_probs(choices.candidates.features @ head, choices.candidates.mask)
    return choice_model.total_nll(log_p, choices)

  def nll(ridge):
    return jax.vmap(nll_of)(fits(given, ridge), asked).sum()

  ridges = jnp.asarray(RIDGES, jnp.float32)
  return ridges[jnp.argmin(jax.lax.map(nll, ridges))]
