"""Newton's method for a linear head under a standard normal prior: argmin NLL(v) + ½‖v‖²."""

import jax
import jax.numpy as jnp
from jax.scipy import linalg

from metapers.core import choice_model, masked
from metapers.core.task import Choices
from metapers.core.types import Array, Callable, Float, Scalar
from metapers.learners.utility import negative_log_likelihood

STEP_SIZES = (1.0, 0.5, 0.25, 0.0625)  # of the line search: Newton alone can overshoot
TINY = 1e-12
SLACK = 1e-3  # nats
SMALL_GAP = 1e-3  # in logits: below, tanh(g/2) / 2g is a quarter
ROUNDING = 4  # times eps: what of a Gram matrix's trace may be lost of its smallest eigenvalues


def objective(
  v: Float[Array, 'H'],
  offset: Float[Array, 'N K'],
  factors: Float[Array, 'N K H'],
  support: Choices,
) -> Scalar:
  """Returns -log P(support | v) - log N(v; 0, I), up to a constant, in nats."""
  return negative_log_likelihood(offset + factors @ v, support) + 0.5 * v @ v


def weighted_contrasts(
  v: Float[Array, 'H'],
  offset: Float[Array, 'N K'],
  factors: Float[Array, 'N K H'],
  support: Choices,
) -> Float[Array, 'NK H']:
  """Returns A with Hessian I + AᵀA of `objective`: rows √(weight_n p_nk) (φ_nk - Σ_j p_nj φ_nj)."""
  mask = support.candidates.mask & support.mask[:, None]
  p = jnp.exp(choice_model.log_probs(offset + factors @ v, mask))
  centred = factors - jnp.einsum('nk,nkh->nh', p, factors)[:, None]
  weighted = p * support.weight[:, None]
  root = masked.fill(jnp.sqrt(jnp.maximum(weighted, TINY)), mask)  # √ has no derivative at 0
  return (root[..., None] * centred).reshape(-1, v.size)


def secant_contrasts(
  v: Float[Array, 'H'],
  offset: Float[Array, 'N K'],
  factors: Float[Array, 'N K H'],
  support: Choices,
) -> Float[Array, 'N H']:
  """Returns A of the quadratic I + AᵀA that touches `objective` at v and, of pairs, bounds it.

  Rows √(weight_n tanh(g_n/2) / 2g_n) (φ_ny - φ_nr), where g is the gap of utilities between what
  was chosen, y, and the best other candidate, r. Where utilities are far apart the Hessian vanishes
  and says nothing of how far to go; this curvature falls as 1/|g| alone.

  Reference:
    Jaakkola and Jordan 2000, Statistics and Computing 10, eq. 7.
  """
  chosen = jax.nn.one_hot(support.choice, offset.shape[-1], dtype=factors.dtype)
  utility = offset + factors @ v
  others = masked.fill(utility, support.candidates.mask & (chosen == 0), -jnp.inf)
  best = jax.nn.one_hot(jnp.argmax(others, -1), offset.shape[-1], dtype=factors.dtype)
  there = support.mask & jnp.isfinite(others).any(-1)
  gap = masked.fill(jnp.sum((chosen - best) * utility, -1), there)
  root = jnp.sqrt(masked.fill(support.weight, there) * secant_curvature(gap))
  return root[:, None] * jnp.einsum('nk,nkh->nh', chosen - best, factors)


def secant_curvature(gap: Float[Array, '*N']) -> Float[Array, '*N']:
  """Returns tanh(g/2) / 2g: ¼ at 0, as the second derivative of -log σ, and 1/2|g| far from it."""
  is_small = jnp.abs(gap) < SMALL_GAP
  return jnp.where(is_small, 0.25, jnp.tanh(gap / 2) / (2 * jnp.where(is_small, 1, gap)))


def solve(contrasts: Float[Array, 'NK H'], b: Float[Array, 'H']) -> Float[Array, 'H']:
  """Returns (I + AᵀA)⁻¹ b, by whichever of the two Gram matrices is smaller (Woodbury)."""
  rows, width = contrasts.shape

  def solved(_, y):
    if rows < width:
      root = gram_root(contrasts), True
      return y - contrasts.T @ linalg.cho_solve(root, contrasts @ y)
    return linalg.cho_solve((gram_root(contrasts.T), True), y)

  def product(x):
    return x + contrasts.T @ (contrasts @ x)

  return jax.lax.custom_linear_solve(product, b, solved, symmetric=True)


@jax.custom_jvp
def inverse(contrasts: Float[Array, 'NK H']) -> Float[Array, 'H H']:
  """Returns C = (I + AᵀA)⁻¹ as a difference, or a product, that is symmetric by construction."""
  # An inverse by columns errs in each of them apart, and where contrasts repeat that outweighs C.
  rows, width = contrasts.shape
  if rows < width:
    half = linalg.solve_triangular(gram_root(contrasts), contrasts, lower=True)
    return jnp.eye(width, dtype=contrasts.dtype) - half.T @ half
  unit = jnp.eye(width, dtype=contrasts.dtype)
  half = linalg.solve_triangular(gram_root(contrasts.T), unit, lower=True)
  return half.T @ half


@inverse.defjvp
def _inverse_jvp(primals, tangents):
  # dC = -C d(AᵀA) C: two products, where the derivative of a Cholesky root is many solves.
  (contrasts,), (change,) = primals, tangents
  found = inverse(contrasts)
  half = (found @ contrasts.T) @ (change @ found)
  return found, -(half + half.T)


def gram_root(rows: Float[Array, 'M W']) -> Float[Array, 'M M']:
  """Returns the lower Cholesky root of I + R Rᵀ, of a little more where rounding would hide I."""
  gram = rows @ rows.T
  lost = ROUNDING * jnp.finfo(rows.dtype).eps * jnp.trace(gram)
  return jnp.linalg.cholesky(gram + (1 + lost) * jnp.eye(len(gram), dtype=rows.dtype))


def direction(
  v: Float[Array, 'H'],
  offset: Float[Array, 'N K'],
  factors: Float[Array, 'N K H'],
  support: Choices,
) -> Float[Array, 'H']:
  """Returns the direction [H] of a full Newton step from v."""
  gradient = jax.grad(objective)(v, offset, factors, support)
  return -solve(weighted_contrasts(v, offset, factors, support), gradient)


def last_step(
  v: Float[Array, 'H'],
  offset: Float[Array, 'N K'],
  factors: Float[Array, 'N K H'],
  support: Choices,
) -> Float[Array, 'H']:
  """Returns v after a full Newton step [H], whose derivative is the mode's; v where that raises.

  SLACK nats of energy do not count: at the mode a step raises it by rounding, and would be lost.
  """

  def energy(v):
    return jax.lax.stop_gradient(objective(v, offset, factors, support))

  after = v + direction(v, offset, factors, support)
  return jnp.where(energy(after) <= energy(v) + SLACK, after, v)


def line_search(
  energy: Callable[[Float[Array, 'H']], Scalar], v: Float[Array, 'H'], *towards: Float[Array, 'H']
) -> Float[Array, 'H']:
  """Returns v after the step of least energy [H]; v itself where all others raise it or are NaN."""
  sizes = jnp.asarray(STEP_SIZES, v.dtype)
  steps = [v[None] + sizes[:, None] * each[None] for each in towards]
  proposals = jnp.concatenate([*steps, v[None]])
  values = jax.vmap(energy)(proposals)
  # Near the mode steps improve v by what the energy rounds away: the full one is to be taken there.
  rounding = 8 * jnp.finfo(v.dtype).eps * jnp.abs(values[-1])
  return proposals[jnp.nanargmin(values.at[1:].add(rounding))]


def mode(
  offset: Float[Array, 'N K'], factors: Float[Array, 'N K H'], support: Choices, *, num_steps: int
) -> Float[Array, 'H']:
  """Returns argmin_v NLL(v) + ½‖v‖² [H] of u(x) = offset(x) + v·φ(x); no gradient passes.

  Args:
    offset: utility of each candidate without the head, [N, K].
    factors: φ(x), [N, K, H].
    support: one user's comparisons; nothing non-finite may stand in masked entries.
    num_steps: each the best along the step of the Hessian and along that of `secant_contrasts`.
  """
  offset, factors = jax.lax.stop_gradient((offset, factors))

  def energy(v):
    return objective(v, offset, factors, support)

  def step(v, _):
    gradient = jax.grad(energy)(v)
    models = (form(v, offset, factors, support) for form in (weighted_contrasts, secant_contrasts))
    return line_search(energy, v, *(-solve(each, gradient) for each in models)), None

  v, _ = jax.lax.scan(step, jnp.zeros(factors.shape[-1], factors.dtype), length=num_steps)
  return jax.lax.stop_gradient(v)
