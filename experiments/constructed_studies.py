"""From configs of constructed users to studies: a store's replies, a model, and what is beside."""

import functools
import os
import pathlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
import tqdm

from experiments import published_studies
from experiments.build import Config
from metapers.analysis import slates
from metapers.analysis.slates import Slates
from metapers.bench.language import (
  beside_policies,
  constructed_users,
  in_context,
  in_context_runs,
  policies,
  written_replies,
)
from metapers.bench.language.in_context import Texts
from metapers.bench.language.policies import Study
from metapers.core.population import SEEN
from metapers.core.types import Any, Callable, Params
from metapers.data import feature_store
from metapers.io import processes
from metapers.llm import chat_tokens, likelihood
from metapers.llm.decoder import Decoder
from metapers.llm.published import Published
from metapers.llm.trained import Trained

KIND = 'constructed'  # of `config.data`
NUM_WRITERS = 2  # users of each taste who are written to


def study(
  config: Config, name: str, model: Decoder, base: Params, kept: str | os.PathLike
) -> Study:
  """Returns users with constructed preferences, and their comparisons as tokens.

  Raises:
    ValueError: where prompts do not go through the chat template, by which all else here is asked.
  """
  if not config.data.is_chat:
    raise ValueError('constructed users are asked by the chat template: leave data.is_chat True')
  return published_studies.study_of(
    config,
    name,
    model,
    base,
    kept,
    given=users_of(config, name, replies(config)),
    num_query=sizes_of(config, name).num_query,
  )


def content_of(config: Config) -> dict[str, str]:
  """Returns what the files of the model and the store hold, wherever they lie."""
  found = published_studies.model_of(config)
  return {**found, 'store': feature_store.open_store(config.data.folder).manifest_hash}


def sizes_of(config: Config, name: str) -> constructed_users.Sizes:
  """Returns the sizes of a study."""
  users = {key: value for key, value in config.studies[name].users.items() if key != 'tastes'}
  return constructed_users.Sizes(num_support=max(config.evaluation.shots), **users)


def users_of(config: Config, name: str, found: tuple[Slates, Slates, Texts]) -> Published:
  """Returns users who compare the `replies` of a store."""
  tastes = config.studies[name].users.tastes
  return constructed_users.users(*found, tastes, sizes_of(config, name), seed=config.data_seed)


def chat_of(config: Config) -> chat_tokens.ChatTokens:
  """Returns the template of the model's own tokenizer."""
  return chat_tokens.of(published_studies.tokenizer_of(config))


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
  every = in_context.that_fit(
    slates.slates_of(table, split=slates.ALL),
    texts,
    chat_of(config),
    max_prompt=lengths.prompt,
    max_response=lengths.response,
  )
  prompts = [texts.prompts[row].strip() for row in every.rows]
  number, different = pd.factorize(np.array(prompts, object))  # rows of one prompt stay together
  order = np.random.default_rng([config.data_seed, 8]).permutation(len(different))
  is_first = np.isin(number, order[: len(order) // 2])
  return every.only(is_first), every.only(~is_first), texts


class Asked(NamedTuple):
  """What rows that are not trained are of.

  config: of constructed users. study: the users. model, base: decoder, and its parameters.
  workdir: of the study; answers are kept there. identity: what makes the study, whose answers alone
  are taken.
  """

  config: Config
  study: Study
  model: Decoder
  base: Params
  workdir: pathlib.Path
  identity: Mapping[str, Any]


def surface(asked: Asked) -> pd.DataFrame:
  """Returns the results of models of what anybody can count of a reply."""
  config, study = asked.config, asked.study
  train, test, texts = found = replies(config)
  own, other = (constructed_users.features_of(each, texts) for each in (train, test))
  features = {kind: {**own[kind], **other[kind]} for kind in own}
  return beside_policies.surface_rows(study, users_of(config, study.name, found), features)


def prompted(asked: Asked) -> pd.DataFrame:
  """Returns the results of the base, told what users like or shown what they chose."""
  processes.require_single('the row `prompted`')
  config, study, model, base, workdir, identity = asked
  given, most = users_of(config, study.name, replies(config)), config.max_shown
  made_by = {**identity, 'support': max(config.evaluation.shots), 'most': most}
  journal = in_context_runs.Journal(workdir / 'prompted.jsonl', made_by)
  try:
    found = list(beside_policies.questions(study, given, chat_of(config), most=most))
    with tqdm.tqdm(total=len(found), unit='question') as bar:
      bar.update(sum(one.cell.key in journal.answers for one in found))
      in_context_runs.ask(found, likelihood.scorer(model), base, journal, bar.update)
  finally:
    journal.close()
  return beside_policies.prompted_rows(study, given, journal.answers)


# Rows that are not trained.
BESIDE: dict[str, Callable[[Asked], pd.DataFrame]] = {'surface': surface, 'prompted': prompted}


def written(
  config: Config, study: Study, made: Trained, model: Decoder
) -> tuple[list[tuple[bool, dict[str, float]]], str]:
  """Returns what a policy writes, as `styled_generations.written`: of users by what they like."""
  of_rows = functools.partial(written_replies.of_rows, model, made, chat=chat_of(config))
  nobody = of_rows([study.num_users])
  found, texts = [(True, nobody.measured)], {'nobody': nobody.texts}
  if policies.differs(made):
    for kind, of_split in study.groups.items():
      known = of_rows(np.flatnonzero(of_split[SEEN])[:NUM_WRITERS].tolist())
      found.append((False, {f'{name}@{kind}': value for name, value in known.measured.items()}))
      texts[kind] = known.texts
  return found, written_replies.side_by_side(texts)
