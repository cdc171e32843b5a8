"""What meta-learning gains when scores are hidden: features track, R² = .5, noiseless random pairs.

Expected: at k = 8 the best meta-learner recovers at least half of the gap between `pooled` and
`oracle_features`, the interval of its gain excluding 0.
Users: Dirichlet(0.05) ensembles of ten reward models (Zollo et al. 2024, arXiv:2409.20296).
Time: about 13 minutes a seed on one core; `:quick` about 2.
Command: python -m experiments.benchmark --config=experiments/configs/features_gain.py --workdir=DIR
Arguments: quick; learner=NAME gives experiments.train that learner's run.
"""

from experiments import build
from experiments.build import Config
from experiments.configs import base

SLOW = {'learning_rate': 1e-3}
LEARNERS = {
  'cnp': {'kwargs': {'hidden': 64, 'width': 16}, 'training': {'num_steps': 4000, **SLOW}},
  'bayes_head': {'kwargs': {'hidden': ()}},
  'maml': {'training': {'num_steps': 1500, **SLOW}},
  'anil': {'training': SLOW},
  'low_rank': {'kwargs': {'prior_strength': 5.0}, 'population': {'num_users': 2000}},
  'per_user': {'training': {'num_steps': 1000, **SLOW}},
  'pooled': {'training': {'num_steps': 1000, **SLOW}},
}


def get_config(argument: str | None = None) -> Config:
  """Returns the config; `argument` is what follows the colon."""
  given = base.parse(argument)
  population = build.population_config('reward_ensemble', concentration=0.05, track='features')
  config = base.base(population, given)
  config.evaluation.num_users = 500
  conditions = ({}, {'support_prompts': 'held_out'})
  config = base.table(config, LEARNERS, conditions=conditions)
  return base.finish(config, given)
