"""Steering without training: a small frozen model, whose users weigh five axes of style.

A decoder learns answers in all styles of a small grammar, heeds what is asked of four of the five
axes, and learns from examples. Learners are given, as features, how much likelier each preference
prompt makes an answer; their weights steer the tokens, pick among n answers, and end questions.
Source: Kim et al. 2025, arXiv:2502.14289, in small; the rules of questions as in `best_arm`.
Deviations: the model, the texts and the users are made here; utilities are known.

Expected: utility of answers -.05 of the base, 1.3 told, 1.8 steered by `bayes_head` on raw features
  after 8 comparisons, 2.8 by the true weights.
Time: 15 minutes of one core.
Command: python -m experiments.steer --config=experiments/configs/steer_styles.py --workdir=DIR
Arguments: quick.
"""

from ml_collections import config_dict

from experiments.build import Config
from experiments.configs import base


def get_config(argument: str | None = None) -> Config:
  """Returns the config; `argument` is what follows the colon."""
  is_quick = base.switches(argument, 'quick')['quick']
  config: Config = config_dict.ConfigDict()
  config.data_seed = 0
  config.seeds = (0,)
  config.model = {'width': 96, 'hidden': 192, 'num_layers': 2, 'num_heads': 4}
  config.pretraining = {'num_steps': 500, 'batch_size': 48, 'learning_rate': 3e-3}
  config.heeded = {'num_heeded': 4, 'heed_rate': 0.95}
  config.audit = {'num_answers': 256}
  config.users = {'num_users': 200, 'num_pairs': 20, 'num_held_out': 100, 'num_support': 8}
  config.num_queried = 2  # questions of each user that answers are written to
  config.features = ('without_length', 'raw')  # or per_token
  config.learners = {
    'pooled': {'training': {'num_steps': 500}, 'kwargs': {}},
    'gaussian_prior': {'training': {'num_steps': 0}, 'kwargs': {'num_samples': 256}},
    'bayes_head': {'training': {'num_steps': 500}, 'kwargs': {'num_samples': 256}},
  }
  config.training = {'batch_size': 32, 'learning_rate': 3e-3}
  config.measured = {
    'shots': 8,
    'strengths': (0.5, 1.0, 2.0),
    'sizes': (1, 2, 4, 8, 16),
    'cautions': (0.0, 0.5, 1.0, 2.0),
    'num_arms': 6,
    'level': 0.9,
    'num_questions': 12,
  }
  return quick(config) if is_quick else config


def quick(config: Config) -> Config:
  """Returns fewer users and steps, one learner and one form of features."""
  config.pretraining.update(num_steps=350)
  config.users.update(num_users=60, num_pairs=16, num_held_out=24)
  config.num_queried = 2
  config.features = ('without_length',)
  config.learners = {'gaussian_prior': config.learners.gaussian_prior.to_dict()}
  config.measured.update(strengths=(1.0, 2.0), sizes=(1, 4, 8), num_questions=6, num_arms=4)
  return config
