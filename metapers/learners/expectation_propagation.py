"""Expectation propagation for a linear head under a standard normal prior, on pairs.

Each comparison is a site of one number, the gap f = o + c·v by which the chosen candidate is ahead:
its likelihood σ(f) is replaced by exp(ν f - ½ τ f²), such that mean and variance of f under it and
all other sites are those that σ itself gives, which are integrals in one dimension. Where Laplace
puts the mode, this puts the mean: the two part where users are sure and comparisons few.

Reference:
  Minka 2001 (UAI), arXiv:1301.2294; Rasmussen and Williams 2006, section 3.6.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from metapers.core import masked
from metapers.core.task import Choices
from metapers.core.types import Array, Float, PRNGKey
from metapers.learners import newton
from metapers.learners.linear_head import Posterior

NUM_NODES = 64  # of the quadrature
REACH = 7.0  # standard deviations of the cavity on both sides of the mode, beyond which is nothing
NUM_BISECTIONS = 24
TINY = 1e-6  # least variance of a gap: that of a masked comparison is 0
DAMPING = 0.2  # share of a new site: all at once overshoot, with .3 where 256 comparisons repeat


class Sites(NamedTuple):
  """exp(ν f - ½ τ f²) for each comparison. shift: ν [N]. precision: τ [N]."""

  shift: Float[Array, 'N']
  precision: Float[Array, 'N']


def approximate(
  offset: Float[Array, 'N K'],
  factors: Float[Array, 'N K H'],
  support: Choices,
  key: PRNGKey,
  *,
  num_steps: int,
  num_samples: int,
) -> Posterior:
  """Returns the Gaussian of expectation propagation for v ~ N(0, I), u(x) = offset(x) + v·φ(x).

  All sites are updated at once, so that their order does not matter. A comparison of weight w is w
  copies of one site; of weight below 1, one site of likelihood σ^w.

  Args:
    offset: utility of each candidate without the head, [N, K] with K = 2.
    factors: φ(x), [N, K, H].
    support: one user's comparisons; nothing non-finite may stand in masked entries.
    key: for the noise of draws.
    num_steps: damped updates of all sites.
    num_samples: S.

  Raises:
    ValueError: for comparisons of more than two candidates.
  """
  if offset.shape[-1] != 2:
    raise ValueError(
      f"inference='ep' takes pairs, whose likelihood is a function of one number; got "
      f"{offset.shape[-1]} candidates: choose inference='laplace'"
    )
  is_real = support.mask & support.candidates.mask.all(-1)
  sign = 1.0 - 2.0 * support.choice
  gaps = masked.fill(sign * (offset[:, 0] - offset[:, 1]), is_real)
  contrasts = sign[:, None] * masked.fill_features(factors[:, 0] - factors[:, 1], is_real)
  weight = masked.fill(support.weight, is_real)
  power = jnp.where(weight > 0, jnp.minimum(weight, 1), 1)
  copies = weight / power

  def gaussian(sites):
    """Returns mean [H] and covariance [H, H] of v under the sites."""
    said = copies * sites.precision
    root = jnp.where(said > 0, jnp.sqrt(jnp.where(said > 0, said, 1)), 0)  # no slope of √0
    covariance = newton.inverse(root[:, None] * contrasts)
    return covariance @ (copies * (sites.shift - sites.precision * gaps) @ contrasts), covariance

  def step(sites, _):
    mean, covariance = gaussian(sites)
    variance = jnp.maximum(jnp.einsum('nh,hg,ng->n', contrasts, covariance, contrasts), TINY)
    proposed = matched(gaps + contrasts @ mean, variance, sites, power)
    return jax.tree.map(lambda new, old: old + DAMPING * (new - old), proposed, sites), None

  nothing = jnp.zeros_like(gaps)
  sites, _ = jax.lax.scan(step, Sites(nothing, nothing), length=num_steps)
  mean, covariance = gaussian(sites)
  return Posterior(mean, covariance, jax.random.normal(key, (num_samples, mean.size), jnp.float32))


def matched(
  mean: Float[Array, 'N'], variance: Float[Array, 'N'], sites: Sites, power: Float[Array, 'N']
) -> Sites:
  """Returns the sites that give every gap its moments under the other sites and σ(f)^power.

  Args:
    mean: of each gap under all sites.
    variance: likewise.
    sites: one copy of which is taken out.
    power: of the likelihood, [N].
  """
  left = jnp.maximum(1 - variance * sites.precision, TINY)  # of the precision, without the site
  cavity_variance = variance / left
  cavity_mean = (mean - variance * sites.shift) / left
  tilted_mean, tilted_variance = tilted_moments(cavity_mean, cavity_variance, power)
  precision = jnp.maximum((1 - tilted_variance / cavity_variance) / tilted_variance, 0)
  # ν = m_t/v_t - m_c/v_c, without the cancellation of large terms.
  shift = (tilted_mean - cavity_mean) / cavity_variance + tilted_mean * precision
  return Sites(shift, precision)


def tilted_moments(
  mean: Float[Array, 'N'], variance: Float[Array, 'N'], power: Float[Array, 'N']
) -> tuple[Float[Array, 'N'], Float[Array, 'N']]:
  """Returns mean and variance [N] of the density in proportion to N(f; mean, variance) σ(f)^power.

  By the trapezoidal rule in t of f = mode + d sinh t, with d the Laplace deviation: nodes are dense
  at the mode, and reach as far as the Gaussian does, however much wider it is.
  """

  def halve(bracket, _):
    low, high = bracket
    middle = (low + high) / 2
    is_below = middle - mean < variance * power * jax.nn.sigmoid(-middle)
    return (jnp.where(is_below, middle, low), jnp.where(is_below, high, middle)), None

  bracket, _ = jax.lax.scan(halve, (mean, mean + variance * power), length=NUM_BISECTIONS)
  mode = (bracket[0] + bracket[1]) / 2
  slope = jax.nn.sigmoid(mode) * jax.nn.sigmoid(-mode)
  scale = jax.lax.rsqrt(1 / variance + power * slope)
  end = jnp.arcsinh(REACH * jnp.sqrt(variance) / scale)
  t = end[:, None] * jnp.linspace(-1, 1, NUM_NODES, dtype=mean.dtype)[None]
  away = scale[:, None] * jnp.sinh(t)  # from the mode; moments of it keep their digits
  f = mode[:, None] + away
  log_density = (
    power[:, None] * jax.nn.log_sigmoid(f) - 0.5 * (f - mean[:, None]) ** 2 / (variance[:, None])
  )
  p = jax.nn.softmax(log_density + jnp.log(jnp.cosh(t)), -1)
  first = jnp.sum(p * away, -1)
  second = jnp.sum(p * (away - first[:, None]) ** 2, -1)
  return mode + first, second
