import jax.numpy as jnp
import numpy as np

from metapers.bench import policies
from metapers.core import meta_learner, task
from metapers.core.task import Candidates, Task
from metapers.llm.p_dpo import Policy
from metapers.llm.text_users import Split
from metapers.llm.trained import Trained

BETA = 0.25


def scored(params, state, candidates):
  """β times what the features say the log-ratios are, and more for users of later rows."""
  return BETA * (candidates.features['ratio'] + params * state)


def policy():
  learner = meta_learner.from_adapt_score(
    lambda key: jnp.ones(()), lambda params, support, context, key: jnp.zeros(()), scored
  )
  return Policy(learner, lambda params, row, context: row.astype(float), (), None, None, BETA)  # pyright: ignore


def test_log_ratios_are_means_over_what_was_chosen_and_over_what_was_not():
  rng = np.random.default_rng(0)
  ratios = rng.normal(size=(4, 5, 3)).astype(np.float32)
  choice = rng.integers(0, 2, (4, 5))
  shown = np.ones((4, 5, 3), bool)
  shown[:, ::2, 2] = False  # some comparisons are of two
  is_real = rng.random((4, 5)) < 0.7
  given = task.choices(
    Candidates({'ratio': jnp.asarray(ratios)}, jnp.asarray(shown)), jnp.asarray(choice, jnp.int32)
  )._replace(mask=jnp.asarray(is_real))
  tasks = Task(given, given, jnp.arange(4, dtype=jnp.int32), jnp.zeros((4, 0)))
  rows = np.array([0, 2, 1, 7])
  made = Trained(policy(), jnp.ones(()))
  scores = policies.known_scores(made, Split(tasks), rows)
  found = policies.log_ratios(Split(tasks), scores / made.policy.beta)
  chosen, rejected = [], []
  for u, n, k in np.argwhere(shown & is_real[..., None]):
    (chosen if k == choice[u, n] else rejected).append(ratios[u, n, k] + rows[u])
  np.testing.assert_allclose(found['chosen_log_ratio'], np.mean(chosen), rtol=1e-5)
  np.testing.assert_allclose(found['rejected_log_ratio'], np.mean(rejected), rtol=1e-5)
