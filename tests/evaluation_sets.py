"""Users of known preferences to evaluate on, and learners that know these more or less well."""

import jax
import jax.numpy as jnp
import numpy as np

from metapers.core import task
from metapers.core.task import Candidates, Task, Truth
from metapers.evaluation import estimates, intervals
from metapers.evaluation.predictions import Predictions

B, R = 3, 5


def users(num_users=60, num_queries=8, num_slates=4, *, weights=None, num_prompts=30, seed=0):
  """Tasks and truth; a tenth of the comparisons is masked, and the first user has none at all."""
  rng = np.random.default_rng(seed)
  shape = num_users, num_queries
  rewards = rng.normal(size=(*shape, 2, B)).astype(np.float32)
  slates = rng.normal(size=(num_users, num_slates, R, B)).astype(np.float32)
  drawn = rng.dirichlet(np.ones(B), num_users).astype(np.float32)
  weights = drawn if weights is None else np.asarray(weights, np.float32)
  choice = np.einsum('tnkb,tb->tnk', rewards, weights).argmax(-1)
  mask = rng.random(shape) < 0.9
  mask[0] = False
  shown = Candidates(rewards, np.ones((*shape, 2), bool))
  query = task.choices(*jax.tree.map(jnp.asarray, (shown, choice, mask)))
  ids = rng.integers(0, num_prompts, shape)
  shown = rewards, np.ones((*shape, 2), bool), ids
  slate = Candidates(slates, rng.random(slates.shape[:-1]) < 0.9)
  slate_ids = rng.integers(0, num_prompts, (num_users, num_slates))
  models = np.tile(np.arange(R), (num_users, num_slates, 1))
  truth = Truth(weights, *shown, *shown, slate, slates, slate_ids, models)
  tasks = Task(query, query, np.arange(num_users), np.zeros((num_users, 0)))
  return jax.tree.map(jnp.asarray, (tasks, truth))


def evaluation_set(tasks, truth, num_resamples=100):
  return estimates.evaluation_set(tasks, truth, num_resamples=num_resamples)


def predictions(tasks, truth, weights, *, sharpness=3.0):
  """Predicts by weights [L, T, B] of the learner's own."""
  utilities = jnp.einsum('tnkb,ltb->ltnk', tasks.query.candidates.features, weights)
  scores = jnp.einsum('tmrb,ltb->ltmr', truth.slate_rewards, weights)
  return Predictions(jax.nn.log_softmax(sharpness * utilities), scores)


def noisy(tasks, truth, noise, seed=0, num_rows=2):
  """Predicts with the true weights plus noise."""
  true = np.asarray(truth.weights)
  added = noise * np.random.default_rng(seed).normal(size=(num_rows, *true.shape))
  return predictions(tasks, truth, (true + added).astype(np.float32))


def spread(half, num_users):
  """Resamples [17, 1] of 0 whose interval over so many users is ± half, users alone differing."""
  users = np.array([1.0, -1.0, 1.0, -1.0])
  rows = np.r_[0.0, users / users.std(ddof=1), np.zeros(12)]
  return half / intervals.student(num_users) * rows[:, None]
