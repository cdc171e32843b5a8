"""The model that comes with the package, `metapers/pretrained/personal_llm_scores`.

Users: Dirichlet ensembles of ten reward models (Zollo et al. 2024, arXiv:2409.20296), simulated on
the synthetic store: α in 0.01, 0.05, 0.1, 1 and label accuracy in 1, 0.9, mixed equally; histories
of 0 to 64 random pairs. A candidate is its ten raw scores.
Expected on validation users: accuracy 81.2, 86.9 and 92.6 % after 0, 4 and 16 comparisons of right
  labels, 78.2, 82.2 and 86.7 % of 90 % right ones; mean NLL .314 over 0 to 64 of both, where
  `bayes_head` has .320 in as much time.
Time: about 6 minutes on one free core; `:quick` under one.
Command: python -m experiments.train --config=experiments/configs/pretrained.py --workdir=DIR, then
  copy DIR/export to metapers/pretrained/personal_llm_scores.
Arguments: quick; learner=NAME for any other learner with its own defaults.
"""

from experiments import build
from experiments.build import Config
from experiments.configs import base


def get_config(argument: str | None = None) -> Config:
  """Returns the config; `argument` is what follows the colon."""
  given = base.parse(argument, learner='latent_np')
  population = build.population_config(
    'reward_ensemble',
    concentration=(0.01, 0.05, 0.1, 1.0),
    label_accuracy=(1.0, 0.9),
    num_support=64,
    num_slates=0,
  )
  config = build.single(base.base(population, given), given['learner'])
  if given['learner'] == 'latent_np':
    config.learner.kwargs.num_samples = 16  # what `ask` compares answers under
  config.training.num_steps = 300 if given['quick'] else 3000
  config.training.evaluate_every = 150 if given['quick'] else 1000
  config.evaluation.shots = (0, 1, 2, 4, 8, 16, 32, 64)
  config.evaluation.num_users = 100 if given['quick'] else 1000
  config.evaluation.num_validation_users = 50 if given['quick'] else 400
  return config
