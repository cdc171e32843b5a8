"""P-DPO on a small language model, whose users like known styles.

A decoder of 230,000 parameters learns answers in all styles of a small grammar, and is tuned by
users' comparisons. Opposed: all users differ in one axis, 65 % like one pole and 35 % the other
(20 users, 13 : 7; and 1,000). Axes: three axes, two poles each, as P-SOUPS has them. Stated: 1,000
users of ten types, half of whom say truly what they like: a 2 x 2 of that text and of comparisons.
With the argument `heeding` it is that study alone, on a model that learned what such words mean: to
the other one they are words that change nothing.
Source: Li et al. 2024, arXiv:2402.05133, in small.
Deviations: the model, the texts and the users are made here; users have a learning rate of their
own, offsets start at 0, clusters start from individuals, new users are fitted, and the NLL of what
was chosen is in the loss (Pang et al. 2024, arXiv:2404.19733) of all but plain DPO and of the
individuals that clusters start from.

Time: see docs/language_model.md; `:quick` 4 minutes of CPU, `:heeding` 15.
Command: python -m experiments.p_dpo --config=experiments/configs/p_dpo_styles.py --workdir=DIR
Arguments: quick, heeding.
"""

from ml_collections import config_dict

from experiments.build import Config
from experiments.configs import base

OPPOSED = {'num_axes': 1, 'shares': (0.65, 0.35), 'num_held_out': 100}
EVEN = {axes: (1.0,) * (2 * axes) for axes in (3, 5)}
ROWS = {
  'individual': {},
  'cluster_2': {'kind': 'cluster', 'num_clusters': 2},
  'cluster_5': {'kind': 'cluster', 'num_clusters': 5},
  'cluster_10': {'kind': 'cluster', 'num_clusters': 10},
  'dpo': {
    'kind': 'uniform',
    'num_tokens': 0,
    'alpha': 0.0,
    'nll_weight': 0.0,
    'reads_text': False,
  },
  'text': {'kind': 'uniform', 'alpha': 0.0},
  'feedback': {'reads_text': False},
}
OPPOSED_ROWS = ('individual', 'dpo', 'cluster_2', 'cluster_5', 'cluster_10')


def get_config(argument: str | None = None) -> Config:
  """Returns the config; `argument` is what follows the colon."""
  options = base.switches(argument, 'quick', 'heeding')
  if options['quick'] and options['heeding']:
    raise ValueError('give one of quick and heeding, not both')
  config: Config = config_dict.ConfigDict()
  config.data_seed = 0
  config.seeds = (0,)
  config.model = {'width': 96, 'hidden': 256, 'num_layers': 2, 'num_heads': 4}
  config.pretraining = {'num_steps': 400, 'batch_size': 64, 'learning_rate': 3e-3}
  config.policy = {
    'num_tokens': 4,
    'alpha': 0.5,
    'beta': 0.1,
    'nll_weight': 10.0,
    'lora_rank': 8,
    'lora_alpha': 16,
    'shrinkage': 0.1,
    'inner_steps': 20,
  }
  config.training = {
    'num_steps': 200,
    'batch_size': 32,
    'learning_rate': 2e-3,
    'user_learning_rate': 0.03,
    'warmup_steps': 20,
  }
  config.evaluation = {'shots': (0, 1, 5)}
  config.rows = ROWS
  config.studies = studies()
  if options['heeding']:
    config.heeded = {'num_heeded': 5, 'heed_rate': 0.95}
    config.pretraining = {'num_steps': 500, 'batch_size': 64, 'learning_rate': 3e-3}
    config.studies = {'stated': studies()['stated']}
    return config
  return quick(config) if options['quick'] else config


def studies():
  """Returns the studies: users, how rows are trained, and which rows."""
  many = {
    'num_steps': 240,
    'batch_size': 64,
    'user_learning_rate': 0.005,  # of users who are seen rarely
    'cluster_learning_rate': 0.03,
  }
  return {
    'opposed_20': {
      'users': {'num_users': 20, 'num_pairs': 32, **OPPOSED},
      'training': {},
      'rows': OPPOSED_ROWS,
    },
    'opposed_1000': {
      'users': {'num_users': 1000, 'num_pairs': 16, 'num_query': 8, **OPPOSED},
      'training': many,
      'rows': OPPOSED_ROWS,
    },
    'axes': {
      'users': {'num_users': 60, 'num_pairs': 32, 'num_axes': 3, 'shares': EVEN[3]},
      'training': {'num_steps': 300},
      'rows': ('individual', 'dpo', 'cluster_10'),
    },
    'stated': {
      'users': {
        'num_users': 1000,
        'num_pairs': 16,
        'num_query': 8,
        'num_axes': 5,
        'shares': EVEN[5],
        'statement_rate': 0.5,
      },
      'training': {**many, 'num_steps': 300},
      'rows': ('individual', 'feedback', 'text', 'dpo'),
    },
  }


def quick(config: Config) -> Config:
  """Returns the first study alone, with fewer users, rows and steps."""
  config.pretraining.num_steps = 200
  config.training.num_steps = 120
  few = config.studies.opposed_20
  few.users.num_held_out = 20
  few.rows = ('individual', 'dpo', 'cluster_5')
  config.studies = {'opposed_20': few.to_dict()}
  return config
