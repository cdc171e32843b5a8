"""Slice sampling on a line whose prior is a Beta density, however far its tails reach.

Reference:
  Neal 2003, Slice sampling (Annals of Statistics 31).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metapers.core.types import Array, Callable, Float, PRNGKey

TINY = float(np.finfo(np.float32).tiny)
NUM_PROPOSALS = 6  # more cost more and move little further: rejected particles wait for the next b


class Line(NamedTuple):
  """Two exponentials back to back, which stand in for a prior on a line.

  Their distribution function turns the line into the unit interval, on which the true prior is
  nearly flat, so that one bracket holds tails of length 1/α as well as what lies between them.

  mode: [S]. left, right: [S] rates of decay.
  """

  mode: Float[Array, 'S']
  left: Float[Array, 'S']
  right: Float[Array, 'S']


def beta_line(first: Float[Array, 'S'], second: Float[Array, 'S']) -> Line:
  """Returns a Line for x = logit t with t ~ Beta(first, second), with tails no lighter."""
  rate = jnp.sqrt(first * second / (first + second))  # 1 / standard deviation, near the mode
  return Line(jnp.log(first / second), jnp.minimum(first, rate), jnp.minimum(second, rate))


def quantile(line: Line, v: Float[Array, 'S']) -> Float[Array, 'S']:
  """Returns the quantiles of a Line: the unit interval mapped to the line."""
  share = line.right / (line.left + line.right)  # of the probability, left of the mode
  below = jnp.log(jnp.maximum(v / share, TINY)) / line.left
  above = -jnp.log(jnp.maximum((1 - v) / (1 - share), TINY)) / line.right
  return line.mode + jnp.where(v < share, below, above)


def distribution(line: Line, x: Float[Array, 'S']) -> Float[Array, 'S']:
  """Returns the distribution function of a Line: the line mapped to the unit interval."""
  share = line.right / (line.left + line.right)
  y = x - line.mode
  below = share * jnp.exp(jnp.minimum(line.left * y, 0))
  above = 1 - (1 - share) * jnp.exp(jnp.minimum(-line.right * y, 0))
  return jnp.where(y < 0, below, above)


def log_density(line: Line, x: Float[Array, 'S']) -> Float[Array, 'S']:
  """Returns the log-density of a Line, up to a constant."""
  y = x - line.mode
  return jnp.where(y < 0, line.left, -line.right) * y


def move(
  key: PRNGKey, x: Float[Array, 'S'], line: Line, log_target: Callable[[Array], Array]
) -> Float[Array, 'S']:
  """Returns S particles, each moved along its line, which leaves its target density invariant.

  The bracket begins with a width drawn at random, from the whole unit interval down to its
  thousandth, and shrinks towards the particle. One whose proposals all fail stays where it is: this
  keeps detailed balance and bounds the cost.

  Args:
    key: PRNG key.
    x: [S] positions.
    line: of each particle.
    log_target: [S] -> [S] log-density of all particles at once, up to a constant; may be -inf.
  """
  uniforms = jax.random.uniform(key, (3 + NUM_PROPOSALS, *x.shape), x.dtype, minval=TINY)
  height = log_target(x) - log_density(line, x) + jnp.log(uniforms[0])
  v = distribution(line, x)
  width = jnp.exp2(12 * uniforms[1] - 10)
  start = v - width * uniforms[2]
  low = jnp.where(width > 1, 0, jnp.maximum(start, 0))
  high = jnp.where(width > 1, 1, jnp.minimum(start + width, 1))

  def propose(carry, uniform):
    low, high, moved, is_done = carry
    proposal = low + uniform * (high - low)
    at = quantile(line, proposal)
    is_inside = log_target(at) - log_density(line, at) > height
    moved = jnp.where(is_inside & ~is_done, at, moved)
    low, high = jnp.where(proposal < v, proposal, low), jnp.where(proposal < v, high, proposal)
    return (low, high, moved, is_done | is_inside), None

  carry = low, high, x, jnp.zeros(x.shape, bool)
  (_, _, moved, _), _ = jax.lax.scan(propose, carry, uniforms[3:])
  return moved
