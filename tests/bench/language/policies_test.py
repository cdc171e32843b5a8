import jax.numpy as jnp
import numpy as np

from metapers.bench.language import policies
from metapers.bench.language.policies import Study
from metapers.core import meta_learner, task
from metapers.core.population import SEEN
from metapers.core.task import Candidates, Task
from metapers.llm.p_dpo import Policy
from metapers.llm.text_users import Split
from metapers.llm.trained import Trained
from metapers.training.meta_training import Training

BETA = 0.25


def scored(params, state, candidates):
  """β times what the features say the log-ratios are, and more for users of later rows."""
  return BETA * (candidates.features['ratio'] + params * state)


def policy():
  learner = meta_learner.from_adapt_score(
    lambda key: jnp.ones(()), lambda params, support, context, key: jnp.zeros(()), scored
  )
  return Policy(learner, lambda params, row, context: row.astype(float), (), None, None, BETA)  # pyright: ignore


def test_intervals_are_for_new_questions_too():
  question = np.arange(8) % 2  # all are asked both; of one the policy is right
  tokens = np.broadcast_to(question[:, None, None], (20, 8, 2, 3))
  given = task.choices(
    Candidates({'prompt': jnp.asarray(tokens)}, jnp.ones((20, 8, 2), bool)),
    jnp.zeros((20, 8), jnp.int32),
  )
  split = Split(Task(given, given, jnp.arange(20, dtype=jnp.int32), jnp.zeros((20, 0))))
  study = Study('s', {'train': split, SEEN: split}, Training(num_steps=1), {}, None, (0,))
  right = np.where(question == 0, 1.0, -1.0)[:, None] * np.array([1.0, -1.0])
  found = policies.known_predictions(split, jnp.asarray(np.broadcast_to(right, (20, 8, 2))))
  frame = policies.frame_of(study, SEEN, 'row', (8,), split, {0: found})
  (row,) = frame[frame['metric'] == 'accuracy'].to_dict('records')
  assert row['ci_low'] < 0.1 and row['ci_high'] > 0.9  # of new users alone: no width


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
