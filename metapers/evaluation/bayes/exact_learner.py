"""`bayes` as a learner: the exact posterior of a simulated user, behind the same functions.

Unlike `ceiling.bayes`, which sees the true rewards beside what learners see, it reads the rewards
from the features, which on the scores track they are.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metapers.core import meta_learner, task
from metapers.core.meta_learner import MetaLearner
from metapers.core.population import Simulation, UserModel
from metapers.core.task import Choices
from metapers.core.types import Array, Int, PRNGKey
from metapers.evaluation.bayes import ceiling, evidence, particles, posterior
from metapers.evaluation.bayes.evidence import Evidence, Rule
from metapers.evaluation.bayes.particles import Particles

SHARPEST = 1e-4  # temperature, in rewards, that stands for noiseless choices in draws


class State(NamedTuple):
  """What is known of one user.

  particles: of the posterior. given: the evidence of the comparisons so far, in a buffer of fixed
  capacity, which moves of the particles need. count: of these comparisons.
  """

  particles: Particles
  given: Evidence
  count: Int[Array, '']


def exact_learner(
  num_models: int,
  user_models: Sequence[UserModel],
  *,
  num_candidates: int = 2,
  num_particles: int = 1024,
  num_samples: int = 128,
  capacity: int = 64,
  seed: int = 0,
) -> MetaLearner:
  """Returns p(w | support) by particles, with w of a Dirichlet and P(k) ∝ exp(w·x_k / temperature).

  The parameters are draws from the prior; nothing is trained. The user state is the particles; one
  user at a time is fastest (chunk_size=1), since `vmap` makes every user pay for every move.

  Args:
    num_models: B, the number of features.
    user_models: equally likely before any choice.
    num_candidates: K.
    num_particles: error falls with its root, cost is linear.
    num_samples: S, of `sample`. Flipped labels, which no utility expresses, are in `predict` alone.
    capacity: comparisons that a user state can hold; cost is linear. Predictions after more of them
      are NaN.
    seed: of the draws from the prior.

  Raises:
    ValueError: when adapting to a support of more than `capacity` comparisons.
  """
  rule = Rule('random', num_candidates)
  models = evidence.stack(user_models)

  def init(key):
    del key
    return posterior.draw_bank(user_models, num_models, seed)[0]

  def update(params, user_state, comparison, context, key):
    del params, context
    return add(jax.random.split(key)[1], user_state, comparison, rule)

  def adapt(params, support, context, key):
    size = support.mask.size
    if size > capacity:
      raise ValueError(f'capacity={capacity} holds no support of {size} comparisons; raise it')

    def add_real(n, state):
      one = task.take(support, n[None])
      return jax.lax.cond(
        support.mask[n], lambda: update(params, state, one, context, key), lambda: state
      )

    key_start, _ = jax.random.split(key)
    now = posterior.prior(key_start, params, models, num_particles, capacity)
    nothing = evidence.no_evidence(capacity, num_candidates, num_models)
    return jax.lax.fori_loop(0, size, add_real, State(now, nothing, jnp.zeros((), jnp.int32)))

  def score(params, user_state, candidates):
    del params
    now = user_state.particles
    return candidates.features @ particles.mean(jnp.exp(now.log_weights), now)

  def predict(params, user_state, candidates):
    del params
    counts = posterior.counts(user_state.particles, candidates.features, candidates.mask, rule)
    return ceiling.smooth(counts[None], candidates.mask[None])[0]

  def sample(params, user_state, candidates):
    del params
    drawn = particles.pick(user_state.particles, 0.5, num_samples)
    temperature = jnp.maximum(drawn.user_models.temperature, SHARPEST)
    weights = jnp.exp(drawn.log_weights) / temperature[None]  # [B, S]
    return jnp.einsum('nkb,bs->snk', candidates.features, weights)

  return meta_learner.from_adapt_score(
    init, adapt, score, predict=predict, sample=sample, update=update
  )


def add(key: PRNGKey, state: State, comparison: Choices, rule: Rule) -> State:
  """Returns the state of a user after ONE more comparison; NaN beyond the buffer's capacity."""
  now, given, n = state
  rewards, mask = comparison.candidates
  new = evidence.evidence_of(rewards, mask, comparison.choice, comparison.weight, rule=rule)
  given = evidence.store(given, new, n)
  now = particles.absorb(jax.random.fold_in(key, n), now, given, n, rule=rule)
  fits = jnp.where(n < given.weight.size, now.log_importance, jnp.nan)
  return State(now._replace(log_importance=fits), given, n + 1)


def of_simulation(simulation: Simulation, **options: int) -> MetaLearner:
  """Returns the `exact_learner` of the users of a simulation.

  Args:
    simulation: of the population.
    **options: of `exact_learner`.

  Raises:
    ValueError: for users whose exact posterior is not a function of what learners see.
  """
  is_seen = simulation.has_score_features and not simulation.excluded_model
  is_seen = is_seen and not simulation.has_statements
  if not is_seen or not simulation.user_models or 'extreme' in simulation.pair_rules:
    raise ValueError(
      'the exact learner needs score features, users of a Dirichlet without an excluded reward '
      'model who state nothing of themselves, and pairs that do not depend on the user; got '
      f'has_score_features={simulation.has_score_features}, '
      f'{len(simulation.user_models)} user models, pair_rules={simulation.pair_rules}, '
      f'excluded_model={simulation.excluded_model!r}'
    )
  return exact_learner(len(simulation.reward_models), simulation.user_models, **options)
