"""From configs of published data to studies: a model from its folder, and people's comparisons."""

import os
import pathlib
from collections.abc import Mapping, Sequence

from experiments import styled_studies
from experiments.build import Config
from metapers.bench import policies
from metapers.bench.policies import Study
from metapers.core.types import Any, Callable, Params
from metapers.data import extras
from metapers.llm import decoder, hf_config, load, published, tokenized
from metapers.llm.decoder import Decoder
from metapers.llm.published import Published, Turn
from metapers.llm.tokenized import Encoder, Lengths


def language_model(config: Config, workdir: str | os.PathLike) -> tuple[Decoder, Params]:
  """Returns the model of a Hugging Face folder."""
  del workdir
  folder = config.model.folder
  if not folder:
    raise ValueError('--config.model.folder is needed: a Hugging Face folder of the base model')
  return decoder.decoder(hf_config.read(folder), is_checkpointed=True), load.params(folder)


def study(config: Config, name: str, model: Decoder, base: Params) -> Study:
  """Returns the people of a data set, and their comparisons as tokens."""
  given = READERS[config.data.kind](config.data)
  splits = tokenized.splits_of(
    given, encoder(config), Lengths(**config.data.lengths), num_support=max(config.evaluation.shots)
  )
  training = styled_studies.training(config, name)
  num_steps = config.training.epochs * len(given.train) // training.batch_size
  return Study(
    name,
    policies.with_references(model, base, splits, chunk_size=config.training.chunk_size),
    training._replace(num_steps=num_steps, chunk_size=config.training.chunk_size),
    {},
    None,
    tuple(config.evaluation.shots),
  )


def encoder(config: Config) -> Encoder:
  """Returns the encoder of the model's own tokenizer: texts as they are, or by its chat template.

  Raises:
    ValueError: for a tokenizer without a chat template where one is asked for.
  """
  extras.require('extract', ('transformers',))
  import transformers  # an extra

  tokenizer = transformers.AutoTokenizer.from_pretrained(config.model.folder)
  if config.data.is_chat and not tokenizer.chat_template:
    raise ValueError(f'the tokenizer of {config.model.folder} has no chat template')

  def plain(text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False)

  def prompt(turns: Sequence[Turn]) -> list[int]:
    if not config.data.is_chat:
      return [tokenizer.bos_token_id, *plain('\n'.join(turn.text for turn in turns))]
    said = [{'role': turn.role, 'content': turn.text} for turn in turns]
    return tokenizer.apply_chat_template(said, add_generation_prompt=True, return_dict=False)

  return Encoder(prompt, lambda text: [*plain(f' {text}'), tokenizer.eos_token_id], plain)


def _tldr(data: Config) -> Published:
  folder = pathlib.Path(data.folder)
  return published.tldr(*(published.read_records(folder / f'{x}.jsonl') for x in TLDR_FILES))


def _p_soups(data: Config) -> Published:
  folder = pathlib.Path(data.folder)
  return published.p_soups(
    {name: published.read_records(folder / f'{name}.json') for name in published.PROFILES}
  )


def _prism(data: Config) -> Published:
  folder = pathlib.Path(data.folder)
  return published.prism(*(published.read_records(folder / f'{x}.jsonl') for x in PRISM_FILES))


TLDR_FILES = ('comparisons_train', 'comparisons_validation')
PRISM_FILES = ('survey', 'conversations')
READERS: Mapping[str, Callable[[Any], Published]] = {
  'tldr': _tldr,
  'p_soups': _p_soups,
  'prism': _prism,
}
