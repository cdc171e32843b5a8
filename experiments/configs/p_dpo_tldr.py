"""P-DPO on TL;DR with conflicting preferences, with the published hyper-parameters.

Ten workers, of whom each prefers longer or shorter summaries, as simulated by their length: the
folder holds comparisons_train.jsonl and comparisons_validation.jsonl; 23,299 comparisons train.
Source: Li et al. 2024, arXiv:2402.05133, and its scripts.
Deviations: each comparison has both terms, so that 16 of them make a batch of 32 rows; the
low-rank changes are on all projections and have no dropout.

Time: not run here: it needs accelerators, a Llama-like base in the place of GPT-J, and the data.
Command: python -m experiments.p_dpo --config=experiments/configs/p_dpo_tldr.py --workdir=DIR
  --config.model.folder=MODEL --config.data.folder=DATA
Arguments: none.
"""

from experiments import published_studies
from experiments.build import Config
from experiments.configs import base

ROWS = {'individual': {}, 'dpo': {'kind': 'uniform', 'num_tokens': 0, 'alpha': 0.0}}


def get_config(argument: str | None = None) -> Config:
  """Returns the config; `argument` is what follows the colon."""
  base.switches(argument)
  return published_studies.config_of(
    'tldr', lengths={'prompt': 550, 'response': 50}, rows=ROWS, is_chat=False, epochs=2
  )
