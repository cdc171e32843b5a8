"""From configs of published data to studies: a model from its folder, and people's comparisons."""

import os
import pathlib
from collections.abc import Mapping

import numpy as np
import transformers
from ml_collections import config_dict

from experiments import styled_studies
from experiments.build import Config
from metapers.bench.language.policies import Study
from metapers.core.population import SEEN
from metapers.core.types import Any, Callable, Params
from metapers.io import workdirs
from metapers.llm import chat_tokens, decoder, hf_config, load, published, reference, tokenized
from metapers.llm.decoder import Decoder
from metapers.llm.published import Published
from metapers.llm.tokenized import Lengths


def config_of(
  kind: str,
  *,
  lengths: Mapping[str, int],
  rows: Mapping[str, Mapping[str, Any]],
  is_chat: bool = True,
  beta: float = 0.5,
  lora_alpha: int = 16,
  epochs: int = 1,
  chunk_size: int = 1,
) -> Config:
  """Returns a config with the published hyper-parameters of P-DPO.

  Args:
    kind: of the data, a key of READERS or `constructed_studies.KIND`.
    lengths: most tokens of a 'prompt', a 'response' and, where users say something, a 'text'.
    rows: options of `p_dpo` by row.
    is_chat: prompts go through the model's chat template.
    beta: how much a log-ratio counts.
    lora_alpha: scale of the low-rank changes times their rank, 8.
    epochs: over the comparisons, where `training.num_steps` is 0.
    chunk_size: comparisons at once.
  """
  config: Config = config_dict.ConfigDict()
  config.seeds = (123,)
  config.model = {'folder': '', 'is_checkpointed': True}
  config.data = {'kind': kind, 'folder': '', 'is_chat': is_chat, 'lengths': dict(lengths)}
  config.policy = {
    'num_tokens': 10,
    'alpha': 0.5,
    'beta': beta,
    'lora_rank': 8,
    'lora_alpha': lora_alpha,
    'inner_steps': 0,
  }
  config.training = {
    'epochs': epochs,
    'num_steps': 0,
    'batch_size': 16,
    'chunk_size': chunk_size,
    'learning_rate': 5e-5,
    'user_learning_rate': 5e-5,
    'warmup_steps': 150,
  }
  config.evaluation = {'shots': (0,)}
  config.rows = {name: dict(options) for name, options in rows.items()}
  config.studies = {kind: {'training': {}, 'rows': tuple(rows)}}
  return config


def check_folders(config: Config) -> None:
  """Refuses a config without folders, before their files are read.

  Raises:
    ValueError: where there is no folder of the model, or none of the data.
  """
  if not config.model.folder:
    raise ValueError('--config.model.folder is needed: a Hugging Face folder of the base model')
  for name, folder in (('model', config.model.folder), ('data', config.data.folder)):
    if not pathlib.Path(folder or 'none').is_dir():
      raise ValueError(f'--config.{name}.folder must be a folder of the {name}, got {folder!r}')


def language_model(config: Config, workdir: str | os.PathLike) -> tuple[Decoder, Params]:
  """Returns the model of a Hugging Face folder."""
  del workdir
  folder = config.model.folder
  model = decoder.decoder(hf_config.read(folder), is_checkpointed=config.model.is_checkpointed)
  return model, load.params(folder)


def study(
  config: Config, name: str, model: Decoder, base: Params, kept: str | os.PathLike
) -> Study:
  """Returns the people of a data set, and their comparisons as tokens."""
  given = READERS[config.data.kind](config.data)
  return study_of(config, name, model, base, kept, given=given)


def study_of(
  config: Config,
  name: str,
  model: Decoder,
  base: Params,
  kept: str | os.PathLike,
  *,
  given: Published,
  num_query: int = 20,
) -> Study:
  """Returns a study of comparisons that are texts.

  Args:
    config: of the run.
    name: of the study.
    model: decoder.
    base: its parameters.
    kept: file of what the base says of responses.
    given: comparisons.
    num_query: comparisons that a user is evaluated on, at most.
  """
  num_support = max(config.evaluation.shots)
  splits = tokenized.splits_of(
    given,
    tokenized.encoder(tokenizer_of(config), is_chat=config.data.is_chat),
    Lengths(**config.data.lengths),
    num_support=num_support,
    num_query=num_query,
  )
  training = styled_studies.training(config, name)
  num_steps = training.num_steps or config.training.epochs * len(given.train) // training.batch_size
  kinds = kinds_of(given, num_support)
  return Study(
    name,
    reference.with_references(
      model,
      base,
      splits,
      chunk_size=config.training.chunk_size,
      path=kept,
    ),
    training._replace(num_steps=num_steps, chunk_size=config.training.chunk_size),
    {kind: {key: found == kind for key, found in kinds.items()} for kind in np.unique(kinds[SEEN])},
    np.unique(kinds[SEEN], return_inverse=True)[1] if given.kinds else None,
    tuple(config.evaluation.shots),
    users={user: given.texts.get(user, '') for user in given.known},
  )


def content_of(config: Config) -> dict[str, str]:
  """Returns what the files of the model and of the data hold, wherever they lie."""
  found, folder = model_of(config), pathlib.Path(config.data.folder)
  read = (folder / each for each in FILES[config.data.kind])
  return {**found, 'data_files': workdirs.content_of(read)}


def model_of(config: Config) -> dict[str, str]:
  """Returns what the files of the model hold, of a config whose folders are there."""
  check_folders(config)
  return {'model_files': load.fingerprint(config.model.folder)}


def kinds_of(given: Published, num_support: int) -> dict[str, np.ndarray]:
  """Returns what the users of each split like, by name; nobody's where that is not known."""
  divided = tokenized.divide(given, num_support, 0)
  known = given.kinds
  return {
    key: np.array([known[user] for user in divided[key].users] if known else [], str)
    for key in (SEEN, 'test')
  }


def tokenizer_of(config: Config) -> Any:
  """Returns the model's own tokenizer.

  Raises:
    ValueError: for tokens that the model does not have.
  """
  tokenizer = transformers.AutoTokenizer.from_pretrained(config.model.folder)
  chat_tokens.check_vocabulary(tokenizer, hf_config.read(config.model.folder).vocab_size)
  return tokenizer


def _tldr(data: Config) -> Published:
  folder = pathlib.Path(data.folder)
  return published.tldr(*(published.read_records(folder / x) for x in TLDR_FILES))


def _p_soups(data: Config) -> Published:
  folder = pathlib.Path(data.folder)
  return published.p_soups(
    {name: published.read_records(folder / path) for name, path in P_SOUPS_FILES.items()}
  )


def _prism(data: Config) -> Published:
  folder = pathlib.Path(data.folder)
  return published.prism(*(published.read_records(folder / x) for x in PRISM_FILES))


TLDR_FILES = ('comparisons_train.jsonl', 'comparisons_validation.jsonl')
P_SOUPS_FILES = {name: f'{name}.json' for name in published.PROFILES}
PRISM_FILES = ('survey.jsonl', 'conversations.jsonl')
FILES = {'tldr': TLDR_FILES, 'p_soups': tuple(P_SOUPS_FILES.values()), 'prism': PRISM_FILES}
READERS: Mapping[str, Callable[[Any], Published]] = {
  'tldr': _tldr,
  'p_soups': _p_soups,
  'prism': _prism,
}
