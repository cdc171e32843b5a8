"""Any prompts and responses under thirteen constructed rewards, with features of what and how.

Features are an encoder's and, since it sees little of how a text is written, syntactic ones
(--config.syntax=False leaves them out).

The rewards are constructed (metapers/data/constructed_rewards.py), not learned from people:
preferences in length, lists, tone and so on, where no reward model can be run. Labelled so wherever
shown.
Time: 5 minutes for 6,440 texts on 2 cores.
Command: python -m experiments.extract --config=experiments/configs/extract_constructed.py
  --out=STORE --config.source.path=FILE [--config.encoder.model=FOLDER, without a network]
Arguments: none.
"""

from experiments.build import Config
from experiments.configs import extract
from metapers.data import constructed_rewards


def get_config(argument: str | None = None) -> Config:
  """Returns the config; `argument` is what follows the colon."""
  config = extract.get_config(argument)
  config.constructed = tuple(constructed_rewards.CONSTRUCTED)
  config.syntax = True
  config.encoder.name = 'minilm'
  config.encoder.model = 'sentence-transformers/all-MiniLM-L6-v2'
  config.encoder.max_length = 256  # of the encoder alone: reward models read longer texts
  config.options.batch_size = 32
  return config
