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

from experiments import published_studies
from experiments.build import Config
from experiments.configs import base

ROWS = {'individual': {}, 'dpo': {'kind': 'uniform', 'num_tokens': 0, 'alpha': 0.0}}


def get_config(argument: str | None = None) -> Config:
  """Returns the config; `argument` is what follows the colon."""
  base.switches(argument)
  return published_studies.config_of(
    'p_soups',
    lengths={'prompt': 200, 'response': 800},
    rows=ROWS,
    beta=0.1,
    lora_alpha=32,
    epochs=2,
    chunk_size=2,
  )
