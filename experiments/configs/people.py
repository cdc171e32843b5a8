"""Any people of your own: what a few comparisons of somebody new tell; unseen people.

Data: a folder of tables (docs/data.md): items with features or without, comparisons or ratings.
All five folds, so that everyone is evaluated once, by learners that never saw them. Numbers of
comparisons that nobody has are left out, and said. Which learner for whom: docs/data.md.
Time: 5 to 10 minutes on two cores for 50 to 2,000 people; `:quick` (one fold, short training) 2:20.
Command: python -m experiments.benchmark --config=experiments/configs/people.py --workdir=DIR
  --config.population.kwargs.path=FOLDER
Arguments: quick; learner=NAME gives experiments.train that learner's run.
"""

from experiments import build
from experiments.build import Config
from experiments.configs import base

# Without hidden layers: of few people there is little to learn, and a line needs the least.
LINEAR = {'kwargs': {'hidden': ()}}
LEARNERS = {
  'gaussian_prior': {'training': {'num_steps': 0}},
  'bayes_head': LINEAR,
  'anil': LINEAR,
  'low_rank': {'kwargs': {'prior_strength': 8.0}},
  'cnp': {'training': {'learning_rate': 1e-3}},
  'per_user': LINEAR,
  'pooled': LINEAR,
}


def get_config(argument: str | None = None) -> Config:
  """Returns the config; `argument` is what follows the colon."""
  given = base.parse(argument)
  population = build.population_config('people', cut_support=True, min_rating_gap=0.0)
  config = base.base(population, given)
  config.protocol = 'people'
  config.evaluation.shots = (0, 1, 2, 5, 10, 20)
  config.evaluation.cut_shots = True
  config.evaluation.rival = ''
  config.evaluation.num_validation_users = 1000  # all there are
  config.training.num_steps = 400
  config.training.evaluate_every = 50
  config.training.steps_per_call = 50
  config.training.learning_rate = 1e-2
  config = base.table(config, LEARNERS, folds=(0, 1, 2, 3, 4))
  return base.finish(config, given)
