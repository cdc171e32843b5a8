"""What an extraction reads, by which models, and how; any prompts and responses.

Time: by the model; shards are kept, so that it can be stopped.
Command: python -m experiments.extract --config=experiments/configs/extract.py --out=STORE
  --config.source.path=FILE
Arguments: none.
"""

from ml_collections import config_dict

from experiments.build import Config
from metapers.data import reward_models


def get_config(argument: str | None = None) -> Config:
  """Returns the config; `argument` is what follows the colon."""
  if argument:
    raise ValueError(f'this config takes no argument, got {argument!r}')
  config: Config = config_dict.ConfigDict()
  config.source = {
    'kind': 'texts',
    'path': '',
    'revision': 'main',
    'scores': '',
    'name': '',
    'licence': '',
  }
  # Reward models by their names in metapers/data/reward_models.py, or as dicts of their fields.
  config.models = ()
  # Constructed rewards, by their names in metapers/data/constructed_rewards.py.
  config.constructed = ()
  # Whether features hold syntactic ones (metapers/data/syntax.py), too: length, lists, punctuation.
  config.syntax = False
  # The model whose hidden states become features; an empty id for none.
  encoder = reward_models.RewardModel('encoder', '', template='plain', pooling='mean')
  config.encoder = {
    name: value
    for name, value in encoder._asdict().items()
    if name not in ('key_mapping', 'ignored')
  }
  config.options = reward_models.Options()._asdict()
  config.prompts_per_shard = 64
  return config
