"""Features of the texts that people chose among: people's tables whose items have a column `text`.

The features of an item are those of a sentence encoder, in FOLDER/features.npy, which is read by
default where `items` has no columns of features. `--config.encoder.template=user_assistant` lets it
read the context of an item, too. Without any encoder `--config.encoder.model= --config.syntax=True`
makes features of length, lists, punctuation and the like alone.
Time: by the number of items; about 20 a second and core at 256 tokens.
Command: python -m experiments.extract --config=experiments/configs/extract_people.py
  --config.source.path=FOLDER [--config.encoder.model=FOLDER of an encoder, without a network]
Arguments: none.
"""

from experiments.build import Config
from experiments.configs import extract_personal_llm


def get_config(argument: str | None = None) -> Config:
  """Returns the config; `argument` is what follows the colon."""
  config = extract_personal_llm.get_config(argument)
  config.source.kind = 'people'
  return config
