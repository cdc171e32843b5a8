"""References that see the true rewards of simulated users, to compare learners with.

`oracle` knows the user. `bayes` knows the prior, the choice model and the comparison rule of the
simulator, and infers the user from the same comparisons as a learner; under `extreme`, which pair
is shown is evidence too, in the support and in the query.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metapers.core import choice_model, masked
from metapers.core.population import UserModel
from metapers.core.task import Choices, Task, Truth
from metapers.core.types import Array, Bool, Float, Int
from metapers.evaluation.bayes import evidence, posterior
from metapers.evaluation.bayes.evidence import Hidden, Rule
from metapers.evaluation.bayes.posterior import Belief, PairOdds
from metapers.evaluation.predictions import Predictions
from metapers.populations import choice_rules

# Float32 resolution: a tie broken otherwise by rounding must not cost infinitely many nats.
LEAST_PROBABILITY = 2.0**-24


class Diagnostics(NamedTuple):
  """How far `bayes` can be trusted, at each of L numbers of shots.

  accuracy_gap, nll_gap: [L] mean difference of two independent halves, in [0, 1] and nats.
  accuracy_error, nll_error: [L] standard error over users of the two halves' average.
  effective_size: [L] mean effective number of particles of one half.
  num_unexplained: [L] comparisons that no particle of a half explained, which should be 0; they
    count as flipped labels would.
  """

  accuracy_gap: Float[Array, 'L']
  nll_gap: Float[Array, 'L']
  accuracy_error: Float[Array, 'L']
  nll_error: Float[Array, 'L']
  effective_size: Float[Array, 'L']
  num_unexplained: Int[Array, 'L']


def oracle(
  tasks: Task,
  truth: Truth,
  *,
  num_rows: int,
  temperature: float | Float[Array, 'T'] = 0.0,
  flip_rate: float | Float[Array, 'T'] = 0.0,
) -> Predictions:
  """Returns the predictions of the true rewards under the true choice model.

  Args:
    tasks: T users.
    truth: of the same. With rewards that are predicted from features in their place, this is what
      the features allow (`references.oracle_features`; of its NLL only the order means anything).
    num_rows: L, the numbers of shots to repeat the same predictions for.
    temperature: of the choices to predict, or [T] each user's own.
    flip_rate: likewise.
  """
  mask = tasks.query.candidates.mask
  shown = truth.query_rewards[..., : mask.shape[-1], :]
  heat, flips = (
    jnp.broadcast_to(jnp.float32(x), mask.shape[:1])[:, None] for x in (temperature, flip_rate)
  )
  utilities = jnp.einsum('tnkb,tb->tnk', shown, truth.weights)
  log_p = choice_rules.log_choice(utilities, mask, temperature=heat, flip_rate=flips)
  log_p = jnp.maximum(log_p, float(np.log(LEAST_PROBABILITY)))
  log_p = masked.fill(log_p, mask, float(jnp.finfo(log_p.dtype).min))
  slate_scores = jnp.einsum('tmrb,tb->tmr', truth.slate_rewards, truth.weights)
  once = Predictions(log_p, slate_scores)
  return jax.tree.map(lambda x: jnp.broadcast_to(x[None], (num_rows, *x.shape)), once)


def bayes(
  tasks: Task,
  truth: Truth,
  user_models: Sequence[UserModel],
  *,
  pair_rule: str,
  shots: Sequence[int],
  floor: Sequence[float] = (),
  num_particles: int = 1000,
  hidden: Hidden | None = None,
  odds: PairOdds | None = None,
  statement: Int[Array, 'T'] | None = None,
  seed: int = 0,
) -> tuple[Predictions, Diagnostics]:
  """Returns the exact posterior predictive given the first k comparisons, for every k in one pass.

      p(choice = k | shown, support) = Σ_w π(w) P(shown, k | w) / Σ_w π(w) P(shown | w)

  π(w) ∝ Dirichlet(w; α) Π_n P(shown_n, choice_n | w)^weight_n. Probabilities are smoothed by one
  uniform particle more; slates are scored by E[w] · rewards.

  Args:
    tasks: T users.
    truth: their rewards; the weights are not used.
    user_models: equally likely before any choice. One is the row `bayes` (that knows α and the
      temperature), several are `bayes_mixture`.
    pair_rule: of support and query, one of `choice_rules.PAIR_RULES`.
    shots: L numbers of support comparisons. A user with fewer uses all there are.
    floor: [B] least weights that users are known to have; none for the whole simplex.
    num_particles: of each of two independent halves; error falls with its root, cost is linear.
    hidden: what is integrated out, each half's own by its first axis; None where all is seen.
    odds: of the pairs, where other responses are hidden.
    statement: which reward model each user says has most of their weight, negative for nothing
      said; it is true. None where nobody is asked.
    seed: of the particles.

  Returns:
    Predictions of both halves together, [L, T, ...], and Diagnostics.

  Raises:
    ValueError: for no user models or one out of range, an unknown rule, shots out of range, or
      statements beside a floor.
  """
  check_options(tasks, user_models, pair_rule, shots, num_particles)
  ordered, back = np.unique(np.asarray(shots), return_inverse=True)
  if statement is not None and len(floor):
    raise ValueError('statements are of users none of whose weights has a floor')
  # Under no rule but `extreme` does what is shown depend on the user: they are one program.
  as_shown = pair_rule if pair_rule == 'extreme' else 'random'
  rule = Rule(as_shown, tasks.query.candidates.mask.shape[-1], tuple(floor))
  models = evidence.stack(user_models)
  bank = posterior.draw_bank(user_models, truth.weights.shape[-1], seed, rule.floor)
  people = posterior.people_of(tasks, truth, max(1, int(ordered[-1])), odds)
  people = people._replace(statement=statement)
  key = jax.random.key(seed)
  options = {'rule': rule, 'num_particles': num_particles, 'hidden': hidden}
  beliefs = posterior.infer(key, people, bank, models, jnp.asarray(ordered, jnp.int32), **options)
  beliefs = jax.tree.map(lambda x: x[:, back], beliefs)  # [2, L, T, ...]
  return summarise(tasks, beliefs)


def check_options(
  tasks: Task,
  user_models: Sequence[UserModel],
  pair_rule: str,
  shots: Sequence[int],
  num_particles: int,
) -> None:
  """Refuses what `bayes` cannot compute.

  Raises:
    ValueError: naming what was given and what would do.
  """
  size = tasks.support.mask.shape[-1]
  if pair_rule not in choice_rules.PAIR_RULES:
    raise ValueError(
      f'unknown pair_rule {pair_rule!r}; known: {", ".join(choice_rules.PAIR_RULES)}'
    )
  if not shots or min(shots) < 0 or max(shots) > size:
    raise ValueError(f'shots must lie in 0..{size}, what the support holds; got {list(shots)}')
  if not 1 <= len(user_models) <= num_particles:
    raise ValueError(
      f'bayes needs 1 to num_particles={num_particles} user models, got {len(user_models)}'
    )
  for one in user_models:
    if not (one.concentration > 0 and one.temperature >= 0 and 0 <= one.flip_rate < 1):
      raise ValueError(
        f'a user model needs concentration > 0, temperature >= 0 and flip_rate in [0, 1), got {one}'
      )


def smooth(counts: Float[Array, 'T N K'], mask: Bool[Array, 'T N K']) -> Float[Array, 'T N K']:
  """Returns log-probabilities from expected numbers of particles and one uniform particle more."""
  uniform = mask / jnp.maximum(masked.count(mask, -1, keepdims=True), 1)
  smoothed = masked.fill(counts, mask) + uniform
  p = smoothed / jnp.maximum(smoothed.sum(-1, keepdims=True), 1)
  return masked.fill(jnp.log(p), mask, float(jnp.finfo(p.dtype).min))


def accuracy_and_nll(log_p: Float[Array, 'T N K'], query: Choices) -> tuple[Array, Array]:
  """Returns every user's accuracy and NLL, by the weights of the comparisons: [T] each."""
  observed = choice_model.correct(log_p, query), -choice_model.chosen_log_probs(log_p, query)
  accuracy, nll = (masked.weighted_mean(x, query.mask, query.weight, -1) for x in observed)
  return accuracy, nll


def standard_error(gap: Float[Array, 'L T']) -> Float[Array, 'L']:
  """Returns the standard error of the average of two halves, by their differences for T users."""
  return jnp.sqrt(jnp.sum(gap**2, -1)) / (2 * gap.shape[-1])


@jax.jit
def summarise(tasks: Task, beliefs: Belief) -> tuple[Predictions, Diagnostics]:
  """Returns the predictions of the two halves together, and how far the halves differ."""
  mask = tasks.query.candidates.mask
  log_p = jax.vmap(smooth, (0, None))(beliefs.counts.sum(0), mask)
  halves = jax.vmap(jax.vmap(smooth, (0, None)), (0, None))(beliefs.counts, mask)
  observed = jax.vmap(jax.vmap(accuracy_and_nll, (0, None)), (0, None))(halves, tasks.query)
  accuracy, nll = (first - second for first, second in observed)  # [L, T]
  diagnostics = Diagnostics(
    accuracy_gap=accuracy.mean(-1),
    nll_gap=nll.mean(-1),
    accuracy_error=standard_error(accuracy),
    nll_error=standard_error(nll),
    effective_size=beliefs.effective_size.mean((0, 2)),
    num_unexplained=beliefs.num_unexplained.sum((0, 2)),
  )
  return Predictions(log_p, beliefs.slate_scores.mean(0)), diagnostics
