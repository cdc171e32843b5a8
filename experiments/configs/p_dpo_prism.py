"""P-DPO on PRISM, with the published hyper-parameters.

1,396 people, of whom 1,234 are known, with what they say of themselves: the folder holds
survey.jsonl and conversations.jsonl.
Source: Li et al. 2024, arXiv:2402.05133, and its scripts.
Deviations: each comparison has both terms, so that 16 of them make a batch of 32 rows; the
low-rank changes are on all projections and have no dropout.

Time: not run here: it needs accelerators, Llama-3-8B-Instruct, and the data.
Command: python -m experiments.p_dpo --config=experiments/configs/p_dpo_prism.py --workdir=DIR
  --config.model.folder=MODEL --config.data.folder=DATA
Arguments: none.
"""

from ml_collections import config_dict

from experiments.build import Config
from experiments.configs import base

ROWS = {
  'individual': {},
  'cluster': {'kind': 'cluster', 'num_clusters': 10},
  'dpo': {'kind': 'uniform', 'num_tokens': 0, 'alpha': 0.0},
}


def get_config(argument: str | None = None) -> Config:
  """Returns the config; `argument` is what follows the colon."""
  base.parse(argument)
  config: Config = config_dict.ConfigDict()
  config.seeds = (123,)
  config.model = {'folder': ''}
  config.data = {
    'kind': 'prism',
    'folder': '',
    'is_chat': True,
    'lengths': {'prompt': 470, 'response': 300, 'text': 128},
  }
  config.policy = {
    'num_tokens': 10,
    'alpha': 0.5,
    'beta': 0.5,
    'lora_rank': 8,
    'lora_alpha': 16,
    'inner_steps': 0,
  }
  config.training = {
    'epochs': 1,
    'num_steps': 0,
    'batch_size': 16,
    'chunk_size': 1,
    'learning_rate': 5e-5,
    'user_learning_rate': 5e-5,
    'warmup_steps': 150,
  }
  config.evaluation = {'shots': (0,)}
  config.rows = ROWS
  config.studies = {'prism': {'training': {}, 'rows': tuple(ROWS)}}
  return config
