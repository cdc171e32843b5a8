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

from experiments import published_studies
from experiments.build import Config
from experiments.configs import base

ROWS = {
  'individual': {},
  'cluster': {'kind': 'cluster', 'num_clusters': 10},
  'dpo': {'kind': 'uniform', 'num_tokens': 0, 'alpha': 0.0, 'reads_text': False},
}


def get_config(argument: str | None = None) -> Config:
  """Returns the config; `argument` is what follows the colon."""
  base.switches(argument)
  return published_studies.config_of(
    'prism', lengths={'prompt': 470, 'response': 300, 'text': 128}, rows=ROWS
  )
