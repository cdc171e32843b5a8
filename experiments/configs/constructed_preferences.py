"""Real texts, constructed preferences: which answers a new user prefers, read from features.

Store: made by experiments.extract with extract_constructed.py; users are Dirichlet(0.05) ensembles
of thirteen constructed rewards. Features track, unseen users, unseen prompts, random pairs.
Time: about 5 minutes on one core.
Command: python -m experiments.benchmark --config=experiments/configs/constructed_preferences.py
  --workdir=DIR --config.population.kwargs.store=STORE
Arguments: quick; learner=NAME gives experiments.train that learner's run.
"""

from experiments import build
from experiments.build import Config
from experiments.configs import base

SLOW = {'learning_rate': 1e-3}
LEARNERS = {
  'cnp': {'kwargs': {'hidden': 64, 'width': 16}, 'training': SLOW},
  'bayes_head': {'kwargs': {'hidden': ()}, 'training': SLOW},
  'anil': {'kwargs': {'hidden': ()}, 'training': SLOW},
  'low_rank': {'kwargs': {'prior_strength': 5.0}, 'population': {'num_users': 2000}},
  'per_user': {'kwargs': {'hidden': ()}, 'training': SLOW},
  'pooled': {'kwargs': {'hidden': ()}, 'training': SLOW},
}


def get_config(argument: str | None = None) -> Config:
  """Returns the config; `argument` is what follows the colon."""
  given = base.parse(argument)
  population = build.population_config('reward_ensemble', concentration=0.05, track='features')
  config = base.base(population, given)
  config.protocol = 'constructed_preferences'
  config.evaluation.num_users = 500
  config.evaluation.rival = ''
  config.training.num_steps = 1500
  config.training.evaluate_every = 150
  config.training.steps_per_call = 50
  config = base.table(config, LEARNERS)
  return base.finish(config, given)
