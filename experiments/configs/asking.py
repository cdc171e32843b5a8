"""Active querying: random questions, entropy, D-optimal, BALD and EPIG on one curve.

Every test user has a pool of 64 random pairs, noiseless; a learner asks them for one answer after
another, chosen by its own posterior, and is evaluated after each. `bayes` is asked the same way.
Users: Dirichlet(0.05) ensembles of ten reward models (Zollo et al. 2024, arXiv:2409.20296).
Expected: random questions need at least 8 more, significantly, for the accuracy of the best rule
  (named on validation users) after 8: 21.7 more of bayes, 10.7 of bayes_head, 19.6 of latent_np.
Time: 7 minutes on one core after training, about 12 in all; `:quick` about 1.
Command: python -m experiments.ask --config=experiments/configs/asking.py --workdir=DIR
Arguments: quick; learner=NAME gives experiments.train that learner's run.
"""

from experiments import build
from experiments.build import Config
from experiments.configs import base

LEARNERS = {'bayes_head': {}, 'latent_np': {}}


def get_config(argument: str | None = None) -> Config:
  """Returns the config; `argument` is what follows the colon."""
  given = base.parse(argument)
  population = build.population_config('reward_ensemble', concentration=0.05, num_support=32)
  config = base.base(population, given)
  config.protocol = 'asking'
  config.evaluation.shots = (0, 1, 2, 4, 8, 16, 32)
  config.evaluation.num_users = 300
  config.evaluation.num_validation_users = 100
  config.evaluation.num_particles = 512
  config.asking = {
    'pool_size': 64,
    'num_queries': 64,  # that a user is evaluated on
    'num_questions': 32,
    'compared_after': 8,  # questions by the rule, against those that random questions need
    # Draws from a posterior, more than learners are trained with; a network pays for each.
    'num_samples': {'bayes': 128, 'bayes_head': 128, 'latent_np': 32},
    'exact': True,  # ask by `bayes`, too
  }
  config = base.finish(base.table(config, LEARNERS), given)
  if given['quick'] and not given['learner']:
    config.benchmark.learners = ('bayes_head',)
    config.population.kwargs.num_support = 16
    config.evaluation.shots = (0, 1, 2, 4, 8, 16)
    config.evaluation.num_users = config.evaluation.num_validation_users = 50
    config.asking.update(num_questions=16, compared_after=4)
  return config
