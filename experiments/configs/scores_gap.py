"""How far meta-learners are from the Bayes-optimal ceiling: scores track, noiseless random pairs.

Expected: one meta-learner within 2.5 accuracy points of `bayes` at every k in 1, 2, 4, 8, 16.
Users: Dirichlet(0.05) ensembles of ten reward models (Zollo et al. 2024, arXiv:2409.20296).
Time: about 20 minutes on one core, 6 of them hedge, which `:quick` leaves out: 7 minutes of CPU.
Command: python -m experiments.benchmark --config=experiments/configs/scores_gap.py --workdir=DIR
Arguments: quick; learner=NAME gives experiments.train that learner's run.
"""

from experiments import build
from experiments.build import Config
from experiments.configs import base

LEARNERS = {
  'cnp': {'training': {'num_steps': 8000}},
  'latent_np': {},
  'bayes_head': {},
  'maml': {},
  'meta_sgd': {},
  'low_rank': {'population': {'num_users': 2000}},
  'lookup': {'training': {'num_steps': 1000}, 'population': {'num_users': 2000}},
  'particle': {
    'training': {'num_steps': 1000, 'learning_rate': 0.03},
    'population': {'num_users': 2000},
  },
  'empirical_bayes': {
    'kwargs': {'signed': False},
    'training': {'num_steps': 0},
    'population': {'num_users': 2000},
  },
  'dirichlet_mixture': {'training': {'num_steps': 0}, 'population': {'num_users': 2000}},
  'hedge': base.hedge_of_scores(),
  'per_user': {},
  'pooled': {'training': {'num_steps': 1000}},
}


def get_config(argument: str | None = None) -> Config:
  """Returns the config; `argument` is what follows the colon."""
  given = base.parse(argument)
  population = build.population_config('reward_ensemble', concentration=0.05)
  config = base.base(population, given)
  config.evaluation.mixture = tuple({'concentration': alpha} for alpha in (0.01, 0.05, 0.1))
  config.evaluation.num_users = 500
  learners = dict(LEARNERS)
  if given['quick'] and not given['learner']:
    del learners['hedge']  # compiles all of its members
  config = base.table(config, learners)
  return base.finish(config, given)
