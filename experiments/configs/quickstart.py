"""A first table in a few minutes: meta-learners beside the oracle and the Bayes ceiling.

Users: Dirichlet(0.05) ensembles of ten reward models (Zollo et al. 2024, arXiv:2409.20296).
Time: 4 to 5 minutes of CPU.
Command: make quickstart
Arguments: learner=NAME gives experiments.train that learner's run.
"""

from experiments import build
from experiments.build import Config
from experiments.configs import base

LEARNERS = {
  'cnp': {'training': {'num_steps': 1500}},
  'bayes_head': {},
  'maml': {},
  'low_rank': {'population': {'num_users': 2000}},
  'per_user': {},
  'pooled': {},
}


def get_config(argument: str | None = None) -> Config:
  """Returns the config; `argument` is what follows the colon."""
  given = base.parse(argument)
  population = build.population_config('reward_ensemble', concentration=0.05)
  config = base.base(population, given)
  config.training.num_steps = 500
  config.training.evaluate_every = 250
  config.evaluation.num_users = 200
  config.evaluation.num_validation_users = 100
  config.evaluation.num_particles = 400
  return base.finish(base.table(config, LEARNERS), given)
