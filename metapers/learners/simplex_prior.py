"""Priors of weights on a simplex, fitted by the marginal likelihood of what known users chose."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from metapers.core import task
from metapers.core.task import Choices, Task
from metapers.core.types import Array, Callable, Float, Params, PRNGKey, Scalar
from metapers.learners import linear_head, newton, particle_bank
from metapers.learners.utility import negative_log_likelihood

BATCH = 64  # known users of one step
SCALE = 5.0  # of utilities, before anything is known of users
CONCENTRATION = 0.5
SPREAD = 2.0  # sd of each fitted parameter around its start, of which one user more is sure


class Family(NamedTuple):
  """A family of distributions on the simplex of W weights, with a scale s of utilities.

  init: `(W) -> params`, with 'log_scale' among them. draw: `(params, key, S) -> log w [S, W]`,
    differentiable, and for one key the same random numbers whatever the parameters.
  """

  init: Callable[[int], Params]
  draw: Callable[[Params, PRNGKey, int], Array]


def dirichlet() -> Family:
  """Returns w ~ Dirichlet(α), α a vector."""

  def init(width):
    start = jnp.full(width, jnp.log(CONCENTRATION), jnp.float32)
    return {'log_concentration': start, 'log_scale': jnp.log(jnp.float32(SCALE))}

  def draw(params, key, num_draws):
    concentration = jnp.exp(params['log_concentration'])
    shape = num_draws, concentration.size
    drawn = jax.random.loggamma(
      key, jnp.broadcast_to(concentration[None], shape), dtype=concentration.dtype
    )
    return jax.nn.log_softmax(drawn)

  return Family(init, draw)


def logistic_normal() -> Family:
  """Returns w = softmax(m + R z) with z ~ N(0, I)."""

  def init(width):
    return {
      'mean': jnp.zeros(width, jnp.float32),
      'root': 2 * jnp.eye(width, dtype=jnp.float32),
      'log_scale': jnp.log(jnp.float32(SCALE)),
    }

  def draw(params, key, num_draws):
    noise = jax.random.normal(key, (num_draws, params['mean'].size), jnp.float32)
    return jax.nn.log_softmax(params['mean'][None] + noise @ params['root'].T)

  return Family(init, draw)


def heads_of(
  log_weights: Float[Array, '*S W'], log_scale: Scalar, *, signed: bool
) -> Float[Array, '*S D']:
  """Returns s w, or with signs s (w_+ - w_-) of weights that like and weights that dislike."""
  weights = jnp.exp(log_scale + log_weights)
  if not signed:
    return weights
  likes, dislikes = jnp.split(weights, 2, -1)
  return likes - dislikes


def draw_bank(
  family: Family, prior: Params, key: PRNGKey, num_draws: int, *, signed: bool
) -> Params:
  """Returns the fields of a `particle_bank.Bank` of equally likely draws from a prior."""
  log_weights = family.draw(prior, key, num_draws)
  heads = heads_of(log_weights, prior['log_scale'], signed=signed)
  return particle_bank.Bank(heads, jnp.zeros(num_draws, heads.dtype))._asdict()


def fit(
  family: Family,
  start: Params,
  histories: Task,
  keys: tuple[PRNGKey, PRNGKey],
  *,
  num_draws: int,
  num_steps: int,
  learning_rate: float,
  signed: bool,
) -> Params:
  """Returns the prior that makes the choices of the known users most likely, by Monte Carlo.

      max_θ Σ_u log 1/S Σ_s P(D_u | s w_s(θ)) - ½ ‖(θ - θ_0) / 2‖²

  The random numbers behind the draws w_s are the same in every step and for every user, so that the
  estimate is a function of θ, and the S draws at its maximum are those it is right for: the scale
  of noiseless users is as large as so many draws can bear, for none of them is quite the user.

  Args:
    family: of priors.
    start: θ_0.
    histories: [U, ...].
    keys: of the draws, and of the users of each step.
    num_draws: S.
    num_steps: of Adam, each on at most `BATCH` users.
    learning_rate: of Adam, which falls to 0.
    signed: see `heads_of`.
  """
  key_draws, key_users = keys
  num_users = histories.user.shape[0]
  size = min(num_users, BATCH)

  def log_evidence(heads, given):
    each = particle_bank.log_likelihoods(heads, given.candidates.features, given)
    return jax.nn.logsumexp(each.sum(0)) - jnp.log(num_draws)

  def loss(prior, users):
    heads = draw_bank(family, prior, key_draws, num_draws, signed=signed)['heads']
    known = task.take(histories.support, users)
    found = jax.lax.map(lambda given: log_evidence(heads, given), known, batch_size=8)
    away = jax.tree.map(lambda x, first: jnp.sum((x - first) ** 2), prior, start)
    return -found.mean() + 0.5 / SPREAD**2 * sum(jax.tree.leaves(away)) / num_users

  optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, num_steps))

  def step(carry, key):
    prior, state = carry
    users = jax.random.permutation(key, jnp.arange(num_users, dtype=jnp.int32))[:size]
    updates, state = optimizer.update(jax.grad(loss)(prior, users), state)
    return (optax.apply_updates(prior, updates), state), None

  keys_of_steps = jax.random.split(key_users, num_steps)
  return jax.lax.scan(step, (start, optimizer.init(start)), keys_of_steps)[0][0]


def laplace(
  prior: Params,
  factors: Float[Array, 'N K D'],
  support: Choices,
  key: PRNGKey,
  *,
  signed: bool,
  num_steps: int,
  num_samples: int,
) -> linear_head.Posterior:
  """Returns the Gaussian of z at a mode of its posterior, w = softmax(m + R z), z ~ N(0, I).

  Utilities are not linear in z: they are linearised at each step, and at the mode for the
  covariance (Gauss and Newton), which is positive definite where the Hessian need not be.

  Args:
    prior: of `logistic_normal`.
    factors: x, [N, K, D].
    support: one user's comparisons; nothing non-finite may stand in masked entries.
    key: for the noise of draws.
    signed: see `heads_of`.
    num_steps: Gauss-Newton steps with line search.
    num_samples: S.
  """

  def head_of(z):
    return head_from(prior, z, signed=signed)

  def energy(z):
    return negative_log_likelihood(factors @ head_of(z), support) + 0.5 * z @ z

  def linear_at(z):
    """Returns offset and factors of utilities as a linear function of z."""
    slopes = factors @ jax.jacfwd(head_of)(z)
    return factors @ head_of(z) - slopes @ z, slopes

  def step(z, _):
    return newton.line_search(energy, z, newton.direction(z, *linear_at(z), support)), None

  z, _ = jax.lax.scan(step, jnp.zeros_like(prior['mean']), length=num_steps)
  covariance = newton.inverse(newton.weighted_contrasts(z, *linear_at(z), support))
  noise = jax.random.normal(key, (num_samples, z.size), jnp.float32)
  return linear_head.Posterior(z, covariance, noise)


def head_from(prior: Params, z: Float[Array, 'W'], *, signed: bool) -> Float[Array, 'D']:
  """Returns the head of z under a prior of `logistic_normal`."""
  log_weights = jax.nn.log_softmax(prior['mean'] + prior['root'] @ z)
  return heads_of(log_weights, prior['log_scale'], signed=signed)


def drawn_heads(
  prior: Params, posterior: linear_head.Posterior, *, signed: bool
) -> Float[Array, 'S D']:
  """Returns heads of S draws of z from a Gaussian posterior."""
  root = jnp.linalg.cholesky(posterior.covariance)
  drawn = posterior.mean[None] + posterior.noise @ root.T
  return jax.vmap(lambda z: head_from(prior, z, signed=signed))(drawn)


FAMILIES = {'dirichlet': dirichlet(), 'logistic_normal': logistic_normal()}
