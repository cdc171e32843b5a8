"""`bayes` as a learner: the exact posterior of a simulated user, seen through the same functions.

Unlike `ceiling.bayes`, which sees the true rewards beside what learners see, it reads the rewards
from the features, which on the scores track they are.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metapers.core import meta_learner, task
from metapers.core.meta_learner import MetaLearner
from metapers.core.population import UserModel
from metapers.core.task import Choices
from metapers.core.types import PRNGKey
from metapers.evaluation.asking import Update
from metapers.evaluation.bayes import ceiling, evidence, particles, posterior
from metapers.evaluation.bayes.evidence import Rule, UserModels
from metapers.evaluation.bayes.particles import Particles

SHARPEST = 1e-4  # temperature, in rewards, that stands for noiseless choices in draws


class Exact(NamedTuple):
  """A learner, and how its user state goes on where it stood: see `asking.ask`."""

  learner: MetaLearner
  update: Update


def exact_learner(
  num_models: int,
  conditions: Sequence[UserModel],
  *,
  num_candidates: int = 2,
  num_particles: int = 1024,
  num_samples: int = 128,
  seed: int = 0,
) -> Exact:
  """p(w | support) by particles, with w of a Dirichlet and P(k) ∝ exp(w·x_k / temperature).

  The parameters are draws from the prior; nothing is trained. The user state is the particles; one
  user at a time is fastest (chunk_size=1), since `vmap` makes every user pay for every move. Which
  pair is shown must not depend on the user's taste, as it does under `extreme`.

  Args:
    num_models: B, the number of features.
    conditions: what the users' may be, equally likely before any choice.
    num_candidates: K.
    num_particles: error falls with its root, cost is linear.
    num_samples: S, of `sample`. Flipped labels, which no utility expresses, are in `predict` alone.
    seed: of the draws from the prior.
  """
  rule = Rule('random', num_candidates)
  kinds = UserModels(*map(jnp.asarray, np.asarray(conditions, np.float32).T))

  def init(key):
    del key
    return posterior.draw_bank(conditions, num_models, seed)[0]

  def update(params, user_state, support, context, key):
    del params, context
    _, key_moves = jax.random.split(key)
    return absorb_new(key_moves, user_state, task.drop_masked(support), rule)

  def adapt(params, support, context, key):
    key_start, _ = jax.random.split(key)
    start = posterior.prior(key_start, params, kinds, num_particles, support.mask.size)
    return update(params, start, support, context, key)

  def score(params, user_state, candidates):
    del params
    return candidates.features @ particles.mean(jnp.exp(user_state.log_weights), user_state)

  def predict(params, user_state, candidates):
    del params
    counts = posterior.counts(user_state, candidates.features, candidates.mask, rule)
    return ceiling.smooth(counts[None], candidates.mask[None])[0]

  def sample(params, user_state, candidates):
    del params
    drawn = particles.pick(user_state, 0.5, num_samples)
    temperature = jnp.maximum(drawn.conditions.temperature, SHARPEST)
    weights = jnp.exp(drawn.log_weights) / temperature[None]  # [B, S]
    return jnp.einsum('nkb,bs->snk', candidates.features, weights)

  return Exact(
    meta_learner.from_adapt_score(init, adapt, score, predict=predict, sample=sample), update
  )


def absorb_new(key: PRNGKey, now: Particles, support: Choices, rule: Rule) -> Particles:
  """Conditions particles on the real comparisons; those explained already cost nothing.

  Args:
    key: PRNG key; comparison n takes `fold_in(key, n)`, so that it does not matter when it comes.
    now: conditioned on some of the support.
    support: nothing non-finite may stand in masked entries.
    rule: what is shown.
  """
  candidates = support.candidates
  seen = evidence.evidence_of(candidates.features, candidates.mask, support.choice, rule=rule)

  def absorb(n, now):
    return jax.lax.cond(
      support.mask[n],
      lambda: particles.absorb(jax.random.fold_in(key, n), now, seen, n, rule=rule),
      lambda: now,
    )

  return jax.lax.fori_loop(0, support.mask.size, absorb, now)
