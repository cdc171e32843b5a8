"""PersonalLLM's public data set as a feature store: ten reward models' scores, and features.

Paper: Zollo et al. 2024 (arXiv:2409.20296). The scores are the published ones; the features those
of a sentence encoder. Scores made anew stand beside the published ones under a name of their own:
`--config.models="({'name': 'gemma_anew', 'model': 'weqweasdas/RM-Gemma-2B'},)"`.
Time: 83,216 texts; on CPU cores about half an hour a core with the encoder, minutes on a GPU.
Command: python -m experiments.extract --config=experiments/configs/extract_personal_llm.py
  --out=STORE [--config.source.path=FOLDER of the parquet files, without a network]
Arguments: none.
"""

from experiments.build import Config
from experiments.configs import extract


def get_config(argument: str | None = None) -> Config:
  """Returns the config; `argument` is what follows the colon."""
  config = extract.get_config(argument)
  config.source.kind = 'personal_llm'
  config.encoder.name = 'minilm'
  config.encoder.model = 'sentence-transformers/all-MiniLM-L6-v2'
  config.encoder.max_length = 256  # of the encoder alone: reward models read longer texts
  config.options.batch_size = 64
  return config
