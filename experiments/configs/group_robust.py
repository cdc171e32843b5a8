"""Objectives for the users who fare worst, and MRM with and without its adaptation.

A neural process, a Bayesian linear head and MRM are trained by the mean over users, by CVaR, by
MRM's Robust Personalization Objective, and by group DRO and V-REx over users of the same favourite
reward model. The report has the worst decile of users, the worst of ten groups and the distance
between the best and the worst. Users and features as in features_k5.py.
Source: Sagawa et al. 2020, arXiv:1911.08731; Krueger et al. 2021, arXiv:2003.00688; Cai et al. 2026
(MRM); the contrast that Li et al. 2024, arXiv:2402.05133, name.
Deviations: groups are known in training, and as many as reward models.

Result (one seed, after 16 comparisons): MRM 69.9 % by the mean, 69.5 by its own objective, 63.3
by that without adaptation; no objective can be told to help the worst decile of users or group.
Time: 12 rows took 14 minutes of a shared core, `cnp`'s five 13 more; three rows `:quick` 2.5.
Command: python -m experiments.benchmark --config=experiments/configs/group_robust.py --workdir=DIR
Arguments: quick; learner=NAME gives experiments.train that learner's run.
"""

from experiments import build
from experiments.build import Config
from experiments.configs import base, features_k5
from metapers.training.objectives import OBJECTIVES

LEARNERS = {
  'cnp': {'kwargs': {'hidden': 64, 'width': 16}},
  'bayes_head': {'kwargs': {'hidden': ()}},
  'mrm': {'training': {'learning_rate': 1e-2}},
}


def get_config(argument: str | None = None) -> Config:
  """Returns the config; `argument` is what follows the colon."""
  given = base.parse(argument)
  config = base.base(features_k5.population(), given)
  config.training.num_steps = 2000
  config.training.learning_rate = 1e-3
  config.evaluation.num_users = 1000
  config.evaluation.shots = (0, 5, 10, 16)
  return base.finish(base.table(config, rows()), given)


def rows():
  """Returns each learner under each objective, MRM without adaptation, and who does not learn."""
  found = {}
  for objective in OBJECTIVES:
    trained_by = {'objective': build.training_config(objective).objective.to_dict()}
    for learner, own in LEARNERS.items():
      training = {**own.get('training', {}), **trained_by}
      found[f'{learner}_{objective}'] = {'name': learner, **own, 'training': training}
  unadapted = {**found['mrm_robust_personalization'], 'kwargs': {'inner_steps': 0}}
  return found | {'mrm_unadapted': unadapted, 'pooled': {'training': {'num_steps': 1000}}}
