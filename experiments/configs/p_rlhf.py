"""P-RLHF's reward model: what a user says and what a user does, apart and together.

Half of the users say truly which reward model has most of their weight (`Task.context`). Rows are a
2 x 2 of that text and of the embedding learned from comparisons, beside clusters of users; `bayes`
conditions on what is said, so that no comparisons have a ceiling, too. 1,000 known users with 50
labels each, scores, Dirichlet(0.05), random pairs, noiseless; new users, and known ones on prompts
that training never showed.
Source: Li et al. 2024, arXiv:2402.05133 (P-RM), on PersonalLLM's users.
Deviations: the text is features and not words; new users are fitted, where there they are generic.

Result (one seed): before any comparison p_rm 85.3 %, bayes 86.2, pooled 78.2; after 16 92.4, 96.2
and 78.2.
Time: 9 minutes of a busy core; `:quick` 3 to 6 minutes of CPU.
Command: python -m experiments.benchmark --config=experiments/configs/p_rlhf.py --workdir=DIR
Arguments: quick; learner=NAME gives experiments.train that learner's run.
"""

from experiments import build
from experiments.build import Config
from experiments.configs import base
from metapers.core.population import SEEN

HIDDEN = {'hidden': (), 'width': 16}
LEARNERS = {
  'p_rm': {'kwargs': HIDDEN},
  'p_rm_implicit': {'name': 'p_rm', 'kwargs': HIDDEN | {'use_text': False}},
  'p_rm_text': {'name': 'p_rm', 'kwargs': HIDDEN | {'user_model': 'uniform'}},
  'p_rm_neither': {
    'name': 'p_rm',
    'kwargs': HIDDEN | {'user_model': 'uniform', 'use_text': False},
  },
  'p_rm_cluster': {
    'name': 'p_rm',
    'kwargs': HIDDEN | {'user_model': 'cluster', 'num_clusters': 10},
  },
  'p_rm_published': {'name': 'p_rm', 'kwargs': HIDDEN | {'inner_steps': 0}},
  'cnp': {'training': {'num_steps': 4000}},
  'pooled': {'training': {'num_steps': 1000}},
}


def get_config(argument: str | None = None) -> Config:
  """Returns the config; `argument` is what follows the colon."""
  given = base.parse(argument)
  population = build.population_config(
    'reward_ensemble', concentration=0.05, num_users=1000, num_labels=50, statement_rate=0.5
  )
  config = base.base(population, given)
  config.evaluation.num_users = 500
  config.evaluation.shots = (0, 1, 2, 4, 8, 16)
  config = base.table(config, LEARNERS, conditions=({}, {'split': SEEN}))
  return base.finish(config, given)
