"""From configs of published data to studies: a model from its folder, and people's comparisons."""

import functools
import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import tqdm
from ml_collections import config_dict

from experiments import styled_studies
from experiments.build import Config
from metapers.analysis import slates
from metapers.analysis.slates import Slates
from metapers.bench import (
  beside_policies,
  constructed_users,
  in_context,
  in_context_runs,
  policies,
  written_replies,
)
from metapers.bench.in_context import Texts
from metapers.bench.policies import Study, Trained
from metapers.core.population import SEEN
from metapers.core.types import Any, Callable, Params
from metapers.data import extras, feature_store
from metapers.llm import chat_tokens, decoder, hf_config, load, policy, published, tokenized
from metapers.llm.decoder import Decoder
from metapers.llm.published import Published, Turn
from metapers.llm.tokenized import Encoder, Lengths


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
    kind: of the data, a key of READERS.
    lengths: most tokens of a 'prompt', a 'response' and, where users say something, a 'text'.
    rows: options of `p_dpo` by row.
    is_chat: prompts go through the model's chat template.
    beta: how much a log-ratio counts.
    lora_alpha: scale of the low-rank changes times their rank, 8.
    epochs: over the comparisons.
    chunk_size: comparisons at once.
  """
  config: Config = config_dict.ConfigDict()
  config.seeds = (123,)
  config.model = {'folder': ''}
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


def language_model(config: Config, workdir: str | os.PathLike) -> tuple[Decoder, Params]:
  """Returns the model of a Hugging Face folder."""
  del workdir
  folder = config.model.folder
  if not folder:
    raise ValueError('--config.model.folder is needed: a Hugging Face folder of the base model')
  return decoder.decoder(hf_config.read(folder), is_checkpointed=True), load.params(folder)


def study(config: Config, name: str, model: Decoder, base: Params) -> Study:
  """Returns the people of a data set, and their comparisons as tokens."""
  given = READERS[config.data.kind](config, name)
  num_support = max(config.evaluation.shots)
  splits = tokenized.splits_of(
    given, encoder(config), Lengths(**config.data.lengths), num_support=num_support
  )
  training = styled_studies.training(config, name)
  num_steps = config.training.epochs * len(given.train) // training.batch_size
  kinds = kinds_of(given, num_support)
  return Study(
    name,
    policies.with_references(model, base, splits, chunk_size=config.training.chunk_size),
    training._replace(num_steps=num_steps, chunk_size=config.training.chunk_size),
    {kind: {key: found == kind for key, found in kinds.items()} for kind in np.unique(kinds[SEEN])},
    np.unique(kinds[SEEN], return_inverse=True)[1] if given.kinds else None,
    tuple(config.evaluation.shots),
  )


def kinds_of(given: Published, num_support: int) -> dict[str, np.ndarray]:
  """Returns what the users of each split like, by name; empty where nobody knows."""
  users = tokenized.users_of(given, num_support)
  return {
    key: np.array([given.kinds[user] for user in users[key] if user in given.kinds], str)
    for key in (SEEN, 'test')
  }


def tokenizer_of(config: Config) -> Any:
  """Returns the model's own tokenizer.

  Raises:
    ValueError: for tokens that the model does not have.
  """
  extras.require('extract', ('transformers',))
  import transformers  # an extra

  tokenizer = transformers.AutoTokenizer.from_pretrained(config.model.folder)
  chat_tokens.check_vocabulary(tokenizer, hf_config.read(config.model.folder).vocab_size)
  return tokenizer


def encoder(config: Config) -> Encoder:
  """Returns the encoder of the model's own tokenizer: texts as they are, or by its chat template.

  Raises:
    ValueError: for a tokenizer without a chat template where one is asked for.
  """
  tokenizer = tokenizer_of(config)
  plain = functools.partial(chat_tokens.plain, tokenizer)

  if config.data.kind == CONSTRUCTED:
    chat = chat_tokens.of(tokenizer)
    return Encoder(lambda turns: chat.prompt(turns[-1].text), chat.response, plain)

  def prompt(turns: Sequence[Turn]) -> list[int]:
    if not config.data.is_chat:
      return [tokenizer.bos_token_id, *plain('\n'.join(turn.text for turn in turns))]
    return chat_tokens.conversation(tokenizer, [(turn.role, turn.text) for turn in turns])

  return Encoder(prompt, lambda text: [*plain(f' {text}'), tokenizer.eos_token_id], plain)


def _tldr(config: Config, name: str) -> Published:
  del name
  folder = pathlib.Path(config.data.folder)
  return published.tldr(*(published.read_records(folder / f'{x}.jsonl') for x in TLDR_FILES))


def _p_soups(config: Config, name: str) -> Published:
  del name
  folder = pathlib.Path(config.data.folder)
  return published.p_soups(
    {name: published.read_records(folder / f'{name}.json') for name in published.PROFILES}
  )


def _prism(config: Config, name: str) -> Published:
  del name
  folder = pathlib.Path(config.data.folder)
  return published.prism(*(published.read_records(folder / f'{x}.jsonl') for x in PRISM_FILES))


def _constructed(config: Config, name: str) -> Published:
  """Returns users with constructed preferences who compare the replies of a feature store."""
  train, test, texts = replies(config)
  users = config.studies[name].users.to_dict()
  tastes = users.pop('tastes')
  sizes = constructed_users.Sizes(num_support=max(config.evaluation.shots), **users)
  return constructed_users.users(train, test, texts, tastes, sizes, seed=config.data_seed)


def replies(config: Config) -> tuple[Slates, Slates, Texts]:
  """Returns what of a store the model reads whole: half of the prompts, the others, and the texts.

  All splits of the store are one here, for few replies are short enough.

  Raises:
    ValueError: for a store without texts, or in which nothing fits.
  """
  store, lengths = config.data.folder, config.data.lengths
  table, responses = feature_store.open_store(store), feature_store.response_texts(store)
  if table.prompt_texts is None:
    raise ValueError(f'{store} keeps no texts of its prompts; extract it anew with them')
  texts = Texts(table.prompt_texts, responses)
  chat = chat_tokens.of(tokenizer_of(config))
  every = in_context.that_fit(
    slates.slates_of(table, split=slates.ALL),
    texts,
    chat,
    max_prompt=lengths.prompt,
    max_response=lengths.response,
  )
  order = np.random.default_rng([config.data_seed, 8]).permutation(len(every.rows))
  half = len(order) // 2
  return every.only(np.sort(order[:half])), every.only(np.sort(order[half:])), texts


def beside(
  config: Config,
  study: Study,
  row: str,
  model: Decoder,
  base: Params,
  workdir: pathlib.Path,
) -> pd.DataFrame:
  """Returns the results of a row that is not trained: one of BESIDE.

  Args:
    config: of constructed users.
    study: the users.
    row: of the table.
    model: decoder.
    base: its parameters.
    workdir: of the study; answers of the base are kept there.
  """
  given = READERS[config.data.kind](config, study.name)
  train, test, texts = replies(config)
  if row == 'surface':
    own, other = (constructed_users.features_of(each, texts) for each in (train, test))
    features = {kind: {**own[kind], **other[kind]} for kind in own}
    return beside_policies.surface_rows(study, given, features)
  chat, most = chat_tokens.of(tokenizer_of(config)), config.data.max_shown
  identity = {name: config.to_dict()[name] for name in ('model', 'data', 'data_seed')}
  users = config.studies[study.name].users.to_dict()
  journal = in_context_runs.Journal(workdir / 'prompted.jsonl', {**identity, 'users': users})
  try:
    found = list(beside_policies.questions(study, given, chat, most=most))
    with tqdm.tqdm(total=len(found), unit='question') as bar:
      bar.update(sum(one.cell.key in journal.answers for one in found))
      in_context_runs.ask(found, policy.scorer(model), base, journal, bar.update)
  finally:
    journal.close()
  return beside_policies.prompted_rows(study, given, journal.answers)


def written(
  config: Config, study: Study, made: Trained, model: Decoder
) -> tuple[list[tuple[bool, dict[str, float]]], str]:
  """Returns what a policy writes, as `styled_generations.written`: of users by what they like."""
  chat = chat_tokens.of(tokenizer_of(config))
  nobody = written_replies.of_rows(model, made, [study.num_users], chat)
  found, texts = [(True, nobody.measured)], {'nobody': nobody.texts}
  if policies.differs(made):
    for kind, of_split in study.groups.items():
      rows = np.flatnonzero(of_split[SEEN])[:NUM_WRITERS].tolist()
      known = written_replies.of_rows(model, made, rows, chat)
      found.append((False, {f'{name}@{kind}': value for name, value in known.measured.items()}))
      texts[kind] = known.texts
  return found, written_replies.side_by_side(texts)


TLDR_FILES = ('comparisons_train', 'comparisons_validation')
PRISM_FILES = ('survey', 'conversations')
CONSTRUCTED, BESIDE = 'constructed', ('surface', 'prompted')
NUM_WRITERS = 2  # users of each kind
READERS: Mapping[str, Callable[[Config, str], Published]] = {
  CONSTRUCTED: _constructed,
  'tldr': _tldr,
  'p_soups': _p_soups,
  'prism': _prism,
}
