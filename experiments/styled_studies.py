"""From configs of styled users to studies: the language model, the users and the rows."""

import functools
import os
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from experiments.build import Config
from metapers.bench.language.policies import Row, Study
from metapers.core.population import SEEN
from metapers.core.types import Params
from metapers.io.checkpoints import Checkpoints
from metapers.io.writers import MetricsWriter
from metapers.llm import (
  decoder,
  p_dpo,
  pretraining,
  reference,
  styled_prompts,
  styled_users,
  styles,
)
from metapers.llm.decoder import Decoder
from metapers.llm.layers import Config as Sizes
from metapers.llm.text_users import Split
from metapers.training.meta_training import Training


def language_model(config: Config, workdir: str | os.PathLike) -> tuple[Decoder, Params]:
  """Returns a small language model that was trained on answers in all styles, or is now.

  With `config.heeded` its texts heed what is said before the question, see `styled_prompts.stream`;
  else what is said changes nothing.
  """
  sizes = config.model
  model = decoder.decoder(
    Sizes(
      vocab_size=len(styles.WORDS),
      width=sizes.width,
      hidden=sizes.hidden,
      num_layers=sizes.num_layers,
      num_heads=sizes.num_heads,
      num_key_heads=sizes.num_heads,
      head_size=sizes.width // sizes.num_heads,
    )
  )
  heeded, batch_size = config.get('heeded'), config.pretraining.batch_size
  texts = styled_prompts.stream(sizes.width, batch_size, **heeded) if heeded else None
  identity = {
    name: config[name].to_dict() for name in ('model', 'pretraining', 'heeded') if config.get(name)
  }
  kept = Checkpoints(workdir, {**identity, 'data_seed': config.data_seed})
  base = pretraining.pretrain(
    model,
    **config.pretraining,
    seed=config.data_seed,
    prompts=styled_users.prompts(config.data_seed).train,
    texts=texts,
    checkpoints=kept,
    writer=lambda step: MetricsWriter(workdir, from_step=step),
  )
  kept.close()
  return model, base


def study(
  config: Config, name: str, model: Decoder, base: Params, kept: str | os.PathLike
) -> Study:
  """Returns the users of a study."""
  del kept  # what a small base says takes seconds
  part = config.studies[name]
  splits = styled_users.styled_users(**part.users, seed=config.data_seed)
  splits = reference.with_references(model, base, splits)
  by_type = {key: styled_users.type_of(splits[key]) for key in (SEEN, 'test')}
  groups = {
    styles.POLES[kind]: {key: found == kind for key, found in by_type.items()}
    for kind in np.unique(by_type[SEEN])
  }
  if part.users.get('statement_rate', 0):
    groups |= spoken(splits)
  return Study(
    name,
    splits,
    training(config, name),
    groups,
    by_type[SEEN],
    tuple(config.evaluation.shots),
    training(config, name, of_clusters=True),
  )


def spoken(splits: Mapping[str, Split]) -> dict[str, dict[str, np.ndarray]]:
  """Returns which users say what they like, and which do not."""
  says = {key: np.asarray(jnp.any(splits[key].tasks.context['mask'], -1)) for key in (SEEN, 'test')}
  return {'stated': says, 'silent': {key: ~said for key, said in says.items()}}


def training(config: Config, name: str, *, of_clusters: bool = False) -> Training:
  """Returns how the rows of a study are trained: what the config says, and the study's own.

  Args:
    config: of the run.
    name: of the study.
    of_clusters: the users' rate is that of clusters, where there is one: many users share each.
  """
  given = {**config.training, **config.studies[name].training}
  if of_clusters:
    given['user_learning_rate'] = given.get('cluster_learning_rate', given['user_learning_rate'])
  optimizer = functools.partial(
    p_dpo.optimizer,
    user_learning_rate=given['user_learning_rate'],
    warmup_steps=given['warmup_steps'],
  )
  return Training(
    num_steps=given['num_steps'],
    batch_size=given['batch_size'],
    chunk_size=given['batch_size'],
    shots=0,
    learning_rate=given['learning_rate'],
    steps_per_call=25,
    evaluate_every=0,
    optimizer=optimizer,
  )


def row(config: Config, name: str) -> Row:
  """Returns a row of the table."""
  own = config.rows[name].to_dict()
  reads_text = own.pop('reads_text', True)
  return Row({**config.policy, **own}, reads_text)


def content_of(config: Config) -> dict[str, str]:
  """Returns what files hold: none, for all is made here."""
  del config
  return {}


def identity(config: Config, name: str) -> dict[str, Any]:
  """Returns what makes a run of a study, besides its row."""
  parts = ('model', 'pretraining', 'heeded', 'data_seed', 'data', 'training')
  shared = {part: config.to_dict()[part] for part in parts if part in config}
  return {**shared, 'study': config.studies[name].to_dict()}
