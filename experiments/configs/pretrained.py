"""The model that comes with the package, `metapers/pretrained/personal_llm_scores`.

Users: Dirichlet ensembles of ten reward models (Zollo et al. 2024, arXiv:2409.20296), simulated on
the synthetic store: α in 0.01, 0.05, 0.1, 1 and label accuracy in 1, 0.9, 0.75, mixed equally;
histories of 0 to 64 random pairs, 2,000 known users. A candidate is its ten raw scores. Nothing is
trained by gradient: a prior is fitted.
Expected: see the model card, metapers/pretrained/personal_llm_scores/README.md.
Time: 2 minutes of CPU; `:quick` under one.
Command: python -m experiments.train --config=experiments/configs/pretrained.py --workdir=DIR, then
  copy DIR/export to metapers/pretrained/personal_llm_scores.
Arguments: quick; learner=NAME for any other learner with its own defaults.
"""

from experiments import build
from experiments.build import Config
from experiments.configs import base

LEARNER = 'dirichlet_mixture'


def get_config(argument: str | None = None) -> Config:
  """Returns the config; `argument` is what follows the colon."""
  given = base.parse(argument, learner=LEARNER)
  population = build.population_config(
    'reward_ensemble',
    concentration=(0.01, 0.05, 0.1, 1.0),
    label_accuracy=(1.0, 0.9, 0.75),
    num_support=64,
    num_slates=0,
    num_users=200 if given['quick'] else 2000,
  )
  config = build.single(base.base(population, given), given['learner'])
  if given['learner'] == LEARNER:
    config.training.num_steps = 0
    config.learner.kwargs.num_particles = 2048
    config.learner.kwargs.num_outside = 256
  else:
    config.training.num_steps = 300 if given['quick'] else 3000
    config.training.evaluate_every = 150 if given['quick'] else 1000
  config.evaluation.shots = (0, 1, 2, 4, 8, 16, 32, 64)
  config.evaluation.num_users = 100 if given['quick'] else 1000
  config.evaluation.num_validation_users = 50 if given['quick'] else 400
  return config
