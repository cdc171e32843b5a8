"""Weights from a Dirichlet of unknown concentration, at an unknown scale, over any features."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metapers.core import batches, task
from metapers.core import outcomes as answering
from metapers.core.meta_learner import MetaLearner
from metapers.core.task import Choices
from metapers.core.types import Array, Float, Int, Params, PRNGKey
from metapers.learners import mixture, options, particle_bank
from metapers.learners.particle_bank import Bank

CONCENTRATIONS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
SCALES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
MOST_FEATURES = 16  # that draws are kept for: the parameters serve any number up to it
NUM_STEPS = 200  # of expectation-maximisation
CHUNK = 8  # known users whose evidence is computed at once


class Grid(NamedTuple):
  """The cells of a prior. concentration: α, [Z]. scale: s, [Z]."""

  concentration: Float[np.ndarray, 'Z']
  scale: Float[np.ndarray, 'Z']


def dirichlet_mixture(
  num_features: int,
  outcomes: Sequence[str] = (),
  *,
  concentrations: Sequence[float] = CONCENTRATIONS,
  scales: Sequence[float] = SCALES,
  num_particles: int = 4096,
  num_outside: int = 512,
  outside_prior: float = 0.02,
  num_fit_particles: int = 6144,
  num_known_users: int = 500,
  num_pseudo_users: float = 1.0,
  num_samples: int = 64,
) -> MetaLearner:
  """Returns u(x) = s w · x with w ~ Dirichlet(α·1), for α and s of a grid with fitted shares.

      P(s w) = (1 - ρ) Σ_z π_z [s = s_z] Dirichlet(w; α_z·1) + ρ P_outside(s w),
      π = argmax_π Π_u Σ_z π_z P(D_u | α_z, s_z)

  where P(D_u | α_z, s_z) is an average over draws: the nonparametric maximum likelihood estimate on
  the known users' comparisons, a convex problem. A small scale s is noise: choices are logistic in
  s w·x. A new user's posterior is exact under S draws of the prior, which are reweighted
  (`particle_bank`); so the answer to a comparison becomes the more likely the more often it was
  given. No steps of training are needed: `prepare` is all; without known users π is uniform.

  The prior treats all features alike. The parameters therefore serve any number of features up to
  16, by a learner built with that `num_features`, and in any order, up to the error of the draws;
  and what no known user cared for is believed of a new user as soon as anything else.

  Users from outside have weights of either sign. The evidence for them and against the others is
  the state's `Surprise`, a martingale under users who are from the prior: of those at most 5 % are
  ever flagged.

  Args:
    num_features: D, of features that nobody dislikes, such as scores, on a common scale.
    outcomes: kinds of answers beside the plain choice, which are refused: see `refuse_outcomes`.
    concentrations: of which each α is one.
    scales: of which each s is one.
    num_particles: S, draws of users from inside.
    num_outside: draws of users from outside.
    outside_prior: ρ; no part of the surprise.
    num_fit_particles: draws that π is fitted with, equally many of each α and s.
    num_known_users: that π is fitted to, at most.
    num_pseudo_users: users as whom a uniform π counts in the fit.
    num_samples: draws of `sample`.

  Raises:
    ValueError: for an option out of range, or any outcomes.

  Reference:
    Robbins 1956, empirical Bayes; Laird 1978 (JASA 73(364)), the nonparametric estimate; Zollo et
    al. 2024, arXiv:2409.20296, for users as Dirichlet weights of reward models.
  """
  refuse_outcomes('dirichlet_mixture', outcomes)
  options.at_least_one(num_particles=num_particles, num_outside=num_outside)
  options.at_least_one(num_fit_particles=num_fit_particles, num_known_users=num_known_users)
  options.at_least_one(num_samples=num_samples)
  options.positive(num_pseudo_users=num_pseudo_users)
  options.share(outside_prior=outside_prior)
  grid = grid_of(concentrations, scales)
  width = max(MOST_FEATURES, num_features)
  log_weights = grouped(num_outside, num_particles, outside_prior)

  def bank(params):
    return Bank(heads_of(params['bank'], num_features), log_weights)

  def params_of(shares, key):
    key_inside, key_outside = jax.random.split(key)
    cells = mixture.stratified(shares, num_particles)
    drawn = draw_inside(grid, cells, key_inside, width)
    return {'shares': shares, 'bank': drawn | draw_outside(grid, num_outside, key_outside, width)}

  def init(key):
    return params_of(jnp.full(grid.scale.size, 1 / grid.scale.size, jnp.float32), key)

  @jax.jit
  def prepare(params, histories, key):
    if not histories.user.size:
      return params
    key_fit, key_bank = jax.random.split(key)
    each = -(-num_fit_particles // grid.scale.size)
    cells = jnp.repeat(jnp.arange(grid.scale.size, dtype=jnp.int32), each)
    heads = heads_of(draw_inside(grid, cells, key_fit, width), num_features)
    known = task.take(
      histories.support, jnp.arange(min(histories.user.size, num_known_users), dtype=jnp.int32)
    )
    shares = fitted_shares(log_evidence(heads, known, grid.scale.size), num_pseudo_users)
    return params_of(shares, key_bank)

  return particle_bank.learner(
    init,
    lambda params, candidates: candidates.features,
    num_samples=num_samples,
    bank=bank,
    num_outside=num_outside,
    prepare=prepare,
  )


def refuse_outcomes(learner: str, outcomes: Sequence[str]) -> None:
  """Refuses answers beside the plain choice: of their flags no weight may be below 0.

  What is rarely answered has a flag of negative weight (`core.outcomes`). Under a weight of at
  least 0 "much better" would always be likelier than the plain choice.

  Args:
    learner: whose features nobody dislikes, as errors name it.
    outcomes: kinds of answers.

  Raises:
    ValueError: for any.
  """
  if kinds := answering.of_names(outcomes):
    raise ValueError(
      f'{learner} gives no column of the features a weight below 0, which the flags of outcomes '
      f'({", ".join(kinds)}) need where such answers are rare: choose another learner, such as '
      'gaussian_prior, or as_pairs whose base is this one, or the one that this is a part of'
    )


def grid_of(concentrations: Sequence[float], scales: Sequence[float]) -> Grid:
  """Returns the cells of all concentrations and scales.

  Raises:
    ValueError: for none of either, or one that is not positive.
  """
  for name, values in (('concentrations', concentrations), ('scales', scales)):
    if not values or not all(value > 0 for value in values):
      raise ValueError(f'{name} must be positive numbers, one at least, got {tuple(values)}')
  cells = np.array(list(itertools.product(concentrations, scales)), np.float32)
  return Grid(*cells.T)


def grouped(num_outside: int, num_inside: int, outside_prior: float) -> Float[Array, 'S']:
  """Returns log-weights of a bank: users from outside share ρ equally, all others the rest."""
  each = np.repeat(
    [outside_prior / num_outside, (1 - outside_prior) / num_inside], [num_outside, num_inside]
  )
  return jnp.log(jnp.asarray(each, jnp.float32))


def draw_inside(grid: Grid, cells: Int[Array, 'S'], key: PRNGKey, width: int) -> Params:
  """Returns draws from cells of the grid, as logarithms of Gamma(α) variates and scales.

  Of any number of features the first so many variates, normalised, are a draw from a Dirichlet.
  """
  concentration = jnp.asarray(grid.concentration)[cells]
  shape = cells.size, width
  drawn = jax.random.loggamma(
    key, jnp.broadcast_to(concentration[:, None], shape), dtype=concentration.dtype
  )
  return {'log_gammas': drawn, 'scales': jnp.asarray(grid.scale)[cells]}


def draw_outside(grid: Grid, num_outside: int, key: PRNGKey, width: int) -> Params:
  """Returns draws of users whose weights have either sign, at the scales of the grid in turn."""
  scales = jnp.asarray(np.resize(np.unique(grid.scale), num_outside))
  directions = jax.random.normal(key, (num_outside, width), jnp.float32)
  return {'directions': directions, 'outside_scales': scales}


def heads_of(drawn: Params, num_features: int) -> Float[Array, 'S D']:
  """Returns s w of the draws, first of those from outside, if any: Σ_d |w_d| = 1."""
  inside = jax.nn.softmax(drawn['log_gammas'][:, :num_features])
  heads = drawn['scales'][:, None] * inside
  if 'directions' not in drawn:
    return heads
  directions = drawn['directions'][:, :num_features]
  length = jnp.abs(directions).sum(-1, keepdims=True)
  return jnp.concatenate([drawn['outside_scales'][:, None] * directions / length, heads])


def log_evidence(heads: Float[Array, 'S D'], known: Choices, num_cells: int) -> Float[Array, 'U Z']:
  """Returns log P(D_u | α_z, s_z) of each known user and cell, an average over the cell's draws.

  Args:
    heads: draws, equally many of each cell in turn.
    known: [U, ...] comparisons.
    num_cells: Z.
  """

  def of_user(user):
    given = task.take(known, user)
    total = particle_bank.log_likelihoods(heads, given.candidates.features, given).sum(0)
    return jax.nn.logsumexp(total.reshape(num_cells, -1), -1)

  found = batches.map_chunks(of_user, known.choice.shape[0], CHUNK)
  return found - jnp.log(heads.shape[0] / num_cells)


def fitted_shares(evidence: Float[Array, 'U Z'], num_pseudo_users: float) -> Float[Array, 'Z']:
  """Returns π that maximises Σ_u log Σ_z π_z P(D_u | z) + ν/Z Σ_z log π_z, by its EM.

  Args:
    evidence: log P(D_u | z).
    num_pseudo_users: ν.
  """
  num_users, num_cells = evidence.shape

  def step(shares, _):
    counts = jax.nn.softmax(evidence + jnp.log(shares)[None], -1).sum(0)
    return (counts + num_pseudo_users / num_cells) / (num_users + num_pseudo_users), None

  start = jnp.full(num_cells, 1 / num_cells, evidence.dtype)
  return jax.lax.scan(step, start, length=NUM_STEPS)[0]
