"""One meta-learner on PersonalLLM's simulated users, scores track, noiseless random pairs.

Paper: Finn et al. 2017 (arXiv:1703.03400) on the users of Zollo et al. 2024 (arXiv:2409.20296).
Time: about 3 minutes on 2 cores; `:quick` under one.
Command: python -m experiments.train --config=experiments/configs/maml.py --workdir=DIR
Arguments: quick; learner=NAME for any other learner with its own defaults; population=NAME, or
  population=path/to/file.py:factory, for other users.
"""

from experiments import build
from experiments.configs import base

NEEDS_KNOWN_USERS = ('low_rank', 'lookup')


def get_config(argument: str | None = None):
  """Returns the config; `argument` is what follows the colon."""
  given = base.parse(argument, learner='maml', population='reward_ensemble')
  pool = {'num_users': 2000} if given['learner'] in NEEDS_KNOWN_USERS else {}
  options = {'concentration': 0.05, **pool} if given['population'] == 'reward_ensemble' else {}
  population = build.population_config(given['population'], **options)
  config = build.single(base.base(population, given), given['learner'])
  if given['quick']:
    config.training.num_steps = 300
    config.training.evaluate_every = 150
    config.evaluation.num_users = 100
    config.evaluation.num_validation_users = 50
    config.evaluation.num_particles = 256
    if 'num_slates' in config.population.kwargs:
      config.population.kwargs.num_slates = 4
  return config
