"""When a person's preferences changed: the posterior of the comparison that they hold since."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from metapers.core import batches, choice_model, masked, task
from metapers.core.meta_learner import MetaLearner
from metapers.core.task import Choices
from metapers.core.types import Array, Bool, Context, Float, Params, PRNGKey, Scalar, UserState
from metapers.learners import prequential

HAZARD = 0.01  # chosen on validation users, see docs/people.md


class Starts(NamedTuple):
  """Log-probabilities of the comparison m since which one user's preferences hold.

  before: log P(start = m | choices before n), what predicts choice n, [N, N] by n and m.
  after: log P(start = m | choices up to n), likewise. Both are -inf where m > n.
  """

  before: Float[Array, '*T N N']
  after: Float[Array, '*T N N']


def posterior(
  log_p: Float[Array, 'N N'], counts: Bool[Array, 'N'], hazard: float | Scalar
) -> Starts:
  """Returns P(start = m | choices) of preferences that are drawn anew with probability h.

    P(start = n | choices before n) = h,
    P(start = m | choices before n) = (1 - h) P(start = m | choices up to n - 1),  m < n,
    P(start = m | choices up to n) ∝ P(choice_n | choices m..n-1) P(start = m | choices before n)

  Before the first comparison nothing can have changed: its preferences start at 0.

  Args:
    log_p: log P(choice_n | choices m..n-1) by m and n, in nats; what stands at m > n counts for
      nothing.
    counts: False for a comparison that is masked or weighs nothing, before which nothing changes.
    hazard: h, of at least 0 and below 1.

  Reference:
    Adams and MacKay 2007, arXiv:0710.3742, whose run length is n - m; Fearnhead and Liu 2007
    (JRSS B 69(4)). Unlike either, nothing is pruned: N is what one person may click.
  """
  size = counts.size
  start = jnp.arange(size)
  log_change = jnp.log(jnp.asarray(hazard, log_p.dtype))
  log_stay = jnp.log1p(-jnp.asarray(hazard, log_p.dtype))
  may_change = counts & (jnp.cumsum(counts) > 1)

  def step(log_w, given):
    n, column, does_count, may = given
    before = jnp.where(may, jnp.where(start == n, log_change, log_stay + log_w), log_w)
    value = jnp.where(does_count & (start <= n), column, 0)
    after = jax.nn.log_softmax(before + value)
    return after, Starts(before, after)

  first = jnp.where(start == 0, 0, -jnp.inf).astype(log_p.dtype)
  return jax.lax.scan(step, first, (start, log_p.T, counts, may_change))[1]


def outdated(log_start: Float[Array, '*T N']) -> Float[Array, '*T N']:
  """Returns P(start > n), that comparison n is of preferences that no longer hold.

  Args:
    log_start: log P(start = m), such as the last row of `Starts.after`.
  """
  p = jnp.exp(log_start)
  return jnp.flip(jnp.cumsum(jnp.flip(p, -1), -1), -1) - p


def alarms(log_start: Float[Array, 'N N'], level: float) -> Bool[Array, 'N']:
  """Returns after which comparisons an alarm is raised: P(start > the last alarm) >= level.

  Before the first alarm that is P(start > 0), of any change at all.

  Args:
    log_start: `Starts.after` of one user.
    level: of the alarm.
  """

  def step(last, given):
    n, probability = given
    is_raised = probability[last] >= level
    return jnp.where(is_raised, n, last), is_raised

  turns = jnp.arange(log_start.shape[0])
  return jax.lax.scan(step, jnp.zeros_like(turns[0]), (turns, outdated(log_start)))[1]


def predictive(
  learner: MetaLearner,
  params: Params,
  given: Choices,
  context: Context,
  key: PRNGKey,
  *,
  chunk_size: int = 16,
) -> Float[Array, 'N N K']:
  """Returns log P(k of comparison n | choices m..n-1) by m and n; the prior's where m > n.

  A learner with `update` reads the comparisons once for each m; another one is adapted anew to each
  of the N (N + 1) / 2 stretches.

  Args:
    learner: what describes preferences while they hold.
    params: of the learner.
    given: N comparisons of one user, in the order in which they were made.
    context: of the user.
    key: the same for each stretch.
    chunk_size: starts m at once; with 1 a learner does nothing that its conditions spare it.
  """
  turns = jnp.arange(given.choice.size, dtype=jnp.int32)

  def adapted(m: Array, n: Array) -> UserState:
    between = given.mask & (turns >= m) & (turns < n)
    return learner.adapt(params, given._replace(mask=between), context, key)

  def shown(state: UserState, comparison: Choices) -> Float[Array, 'K']:
    return learner.predict(params, state, comparison.candidates)[0]

  def anew(m):
    def one(n):
      return shown(adapted(m, n), prequential.one_of(given, n))

    return jax.lax.map(one, jnp.maximum(turns, m))

  def going_on(m):
    def step(state, n):
      comparison = prequential.one_of(given, n)

      def with_comparison():
        assert learner.update is not None
        return learner.update(params, state, comparison, context, key)

      return jax.lax.cond(n >= m, with_comparison, lambda: state), shown(state, comparison)

    return jax.lax.scan(step, adapted(turns[0], turns[0]), turns)[1]

  of_start = anew if learner.update is None else going_on
  return batches.map_chunks(of_start, turns.size, chunk_size)


def predictive_of_types(
  log_p: Float[Array, 'N S K'], given: Choices, log_prior: Float[Array, 'S']
) -> Float[Array, 'N N K']:
  """Returns `predictive` of S types of users, -inf where m > n: one product for each n.

  Args:
    log_p: log P(k of comparison n) by each type, finite at each choice.
    given: N comparisons of one user, in the order in which they were made.
    log_prior: of the types.
  """
  value = jax.vmap(choice_model.chosen_log_probs, (1, None), 1)(log_p, given)
  weighed = masked.fill(given.weight, given.mask)[:, None] * value
  so_far = jnp.cumsum(weighed, 0) - weighed  # [N, S], of the comparisons before n
  turns = jnp.arange(given.choice.size)

  def of_turn(n):
    shares = jax.nn.softmax(jax.nn.log_softmax(log_prior)[None] + so_far[n][None] - so_far, -1)
    found = jnp.log(shares @ jnp.exp(log_p[n]))
    return jnp.where(turns[:, None] <= n, found, -jnp.inf)

  return jnp.swapaxes(jax.lax.map(of_turn, turns), 0, 1)


def chosen(log_probs: Float[Array, 'N N K'], given: Choices) -> Float[Array, 'N N']:
  """Returns weight_n log P(choice_n | choices m..n-1) by m and n, in nats; 0 where masked.

  Args:
    log_probs: `predictive` of the comparisons.
    given: the comparisons.
  """
  each = jax.vmap(choice_model.chosen_log_probs, (0, None))(log_probs, given)
  return masked.fill(given.weight, given.mask)[None] * each


def counted(given: Choices) -> Bool[Array, '*T N']:
  """Returns which comparisons say anything."""
  return given.mask & (given.weight > 0)


def starts(
  learner: MetaLearner,
  params: Params,
  given: Choices,
  context: Context,
  key: PRNGKey,
  hazard: float | Scalar,
) -> Starts:
  """Returns the posterior of the start, see `posterior`, of one user's comparisons in order."""
  clean = task.drop_masked(given)
  log_probs = predictive(learner, params, clean, context, key)
  return posterior(chosen(log_probs, clean), counted(given), hazard)


def mixture(
  log_probs: Float[Array, 'N N K'], before: Float[Array, 'N N'], mask: Bool[Array, 'N K']
) -> Float[Array, 'N K']:
  """Returns log Σ_m P(start = m | choices before n) P(k | choices m..n-1), in nats.

  Args:
    log_probs: `predictive` of the comparisons.
    before: `Starts.before`.
    mask: of their candidates; masked ones get the dtype's minimum.
  """
  mixed = jax.nn.logsumexp(log_probs + before.T[..., None], 0)
  return masked.fill(mixed, mask, float(jnp.finfo(mixed.dtype).min))
