"""P-DPO on P-SOUPS, with the published hyper-parameters.

Six users, each with one pole of three axes: the folder holds P1A.json to P3B.json of rm_training,
53,471 comparisons after repetitions.
Source: Li et al. 2024, arXiv:2402.05133, and its scripts.
Deviations: each comparison has both terms, so that 16 of them make a batch of 32 rows; the
low-rank changes are on all projections and have no dropout.

Time: not run here: it needs accelerators, Tulu-7B, and the data.
Command: python -m experiments.p_dpo --config=experiments/configs/p_dpo_psoups.py --workdir=DIR
  --config.model.folder=MODEL --config.data.folder=DATA
Arguments: none.
"""

from ml_collections import config_dict

from experiments.build import Config
from experiments.configs import base

ROWS = {'individual': {}, 'dpo': {'kind': 'uniform', 'num_tokens': 0, 'alpha': 0.0}}


def get_config(argument: str | None = None) -> Config:
  """Returns the config; `argument` is what follows the colon."""
  base.parse(argument)
  config: Config = config_dict.ConfigDict()
  config.seeds = (123,)
  config.model = {'folder': ''}
  config.data = {
    'kind': 'p_soups',
    'folder': '',
    'is_chat': True,
    'lengths': {'prompt': 200, 'response': 800},
  }
  config.policy = {
    'num_tokens': 10,
    'alpha': 0.5,
    'beta': 0.1,
    'lora_rank': 8,
    'lora_alpha': 32,
    'inner_steps': 0,
  }
  config.training = {
    'epochs': 2,
    'num_steps': 0,
    'batch_size': 16,
    'chunk_size': 2,
    'learning_rate': 5e-5,
    'user_learning_rate': 5e-5,
    'warmup_steps': 150,
  }
  config.evaluation = {'shots': (0,)}
  config.rows = ROWS
  config.studies = {'p_soups': {'training': {}, 'rows': tuple(ROWS)}}
  return config
