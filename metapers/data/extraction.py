"""Texts through reward models and an encoder into a feature store: once, in shards, resumably.

The work is divided into pieces: one model on some prompts. Each piece makes a part on disk, with
scores [n, R] float32 (NaN where there is nothing to score) or, of the encoder and of the syntax,
features [n, R, D] float16; all parts together make the store.
"""

import concurrent.futures
import importlib.metadata
import queue
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from metapers.core.types import Bool, Float
from metapers.data import constructed_rewards, extras, reward_models, shards, syntax, texts
from metapers.data.reward_models import Options, RewardModel, Scored, TextError
from metapers.data.shards import Job, Part
from metapers.data.sources import Source
from metapers.data.texts import Texts

Score = Callable[[Sequence[str], Sequence[str]], Scored]  # of prompts and responses
Progress = Callable[[str, int], None]  # of the model that is run, and the number of texts done

SYNTAX = 'syntax'  # the name of syntactic features, as of a model


class Extraction(NamedTuple):
  """What is extracted, and how.

  source: the texts, and scores that are known already. models: reward models and at most one
  encoder. constructed: names of constructed rewards. syntax: whether features are, besides what
  the encoder makes, log(1 + each syntactic feature of a response). options: how the models are
  run. prompts_per_shard: in one piece of the work.
  """

  source: Source
  models: Sequence[RewardModel] = ()
  constructed: Sequence[str] = ()
  syntax: bool = False
  options: Options = Options()
  prompts_per_shard: int = 64


class Piece(NamedTuple):
  """One part of the work: a model, and prompts start..stop-1."""

  model: str
  start: int
  stop: int

  @property
  def name(self) -> str:
    """Returns the name of its file."""
    return f'{self.model}/{self.start:06d}'


def recipe(extraction: Extraction) -> dict[str, Any]:
  """Returns what parts must agree in to be joined: texts, models, and how these are run."""
  return {
    'texts': texts.digest(extraction.source.texts),
    'models': [model._asdict() for model in extraction.models],
    **({'cut': reward_models.CUT} if extraction.models else {}),
    'constructed': list(extraction.constructed),
    **({'syntax': True} if extraction.syntax else {}),  # parts made before there was any go on
    'options': extraction.options._asdict(),
    'prompts_per_shard': extraction.prompts_per_shard,
  }


def pieces_of(extraction: Extraction) -> list[Piece]:
  """Returns the pieces of an extraction, model after model.

  Raises:
    ValueError: for an unknown constructed reward, or as `divide`.
  """
  constructed_rewards.check_names(extraction.constructed)
  names = [model.name for model in extraction.models] + list(extraction.constructed)
  names += [SYNTAX] if extraction.syntax else []
  return divide(names, len(extraction.source.texts.prompts), extraction.prompts_per_shard)


def by_model(extraction: Extraction, pieces: Sequence[Piece]) -> list[list[Piece]]:
  """Returns the pieces of each model; those that need no model, and little time, come first."""
  models = {model.name for model in extraction.models}
  names = sorted(dict.fromkeys(piece.model for piece in pieces), key=models.__contains__)
  return [[piece for piece in pieces if piece.model == name] for name in names]


def require_packages(
  models: Sequence[Any], constructed: Sequence[str], *, syntax: bool = False
) -> None:
  """Refuses an extraction by packages that are missing.

  Raises:
    ValueError: naming them, and how to install them.
  """
  needed = [*(extras.MODELS if models else ()), *(extras.CONSTRUCTED if constructed else ())]
  needed += extras.SYNTAX if syntax else ()
  extras.require('extract', needed)


def divide(models: Sequence[str], num_prompts: int, prompts_per_shard: int) -> list[Piece]:
  """Returns pieces of consecutive prompts for each model.

  Raises:
    ValueError: for names that repeat or could not be files, or no prompts in a shard.
  """
  wrong = [name for name in models if not name.replace('-', '').replace('_', '').isalnum()]
  if wrong or len(set(models)) != len(models):
    raise ValueError(f'names of models must differ and hold letters, digits, - and _; got {models}')
  if prompts_per_shard < 1:
    raise ValueError(f'prompts_per_shard must be at least 1, got {prompts_per_shard}')
  starts = range(0, num_prompts, prompts_per_shard)
  return [
    Piece(name, start, min(start + prompts_per_shard, num_prompts))
    for name in models
    for start in starts
  ]


def share(pieces: Sequence[Piece], text: str) -> list[Piece]:
  """Returns the i-th of n equal shares of the work, written `i/n` with i from 0 to n-1.

  Raises:
    ValueError: for anything else.
  """
  index, slash, count = text.partition('/')
  if not (slash and index.isdigit() and count.isdigit() and 0 <= int(index) < int(count)):
    raise ValueError(f'shard must be written i/n with 0 <= i < n, such as 0/4; got {text!r}')
  return list(pieces[int(index) :: int(count)])


def missing_pieces(job: Job, pieces: Sequence[Piece]) -> list[Piece]:
  """Returns the pieces whose parts are not on disk."""
  return [piece for piece in pieces if not shards.part_path(job, piece.name).exists()]


def count_texts(pieces: Sequence[Piece], source: Source) -> int:
  """Returns the number of texts in some pieces of the work."""
  num_responses = source.texts.responses.shape[1]
  return sum(piece.stop - piece.start for piece in pieces) * num_responses


def check_models(extraction: Extraction, pieces: Sequence[Piece]) -> None:
  """Reads the tokenizer and the template of every model that is to be run, before the first is.

  Raises:
    ValueError: for one that cannot be read, or has no template.
  """
  wanted = {piece.model for piece in pieces}
  models = [model for model in extraction.models if model.name in wanted]
  if models:
    # torch is needed by extraction alone.
    from metapers.data import reward_scorer

    for model in models:
      reward_scorer.read_tokenizer(model, extraction.options)


def make_parts(
  extraction: Extraction,
  job: Job,
  pieces: Sequence[Piece],
  devices: Sequence[str] = ('cpu',),
  *,
  log: Callable[[str], None] = logging.info,
  progress: Progress = lambda model, num_texts: None,
) -> None:
  """Makes the parts that are missing, model after model, spread over the devices.

  Args:
    extraction: what is extracted.
    job: of the recipe of this extraction.
    pieces: those to do here.
    devices: each gets a copy of the model, such as ('cuda:0', 'cuda:1').
    log: called with a line for each model: its version, and the first text as it reads it.
    progress: called with a model's name as it begins, and after each part with the number of its
      texts.
  """
  missing = missing_pieces(job, pieces)
  for name in dict.fromkeys(piece.model for piece in missing):
    own = [piece for piece in missing if piece.model == name]
    scorers = scorers_of(extraction, name, devices, log)
    progress(name, 0)
    _make_parts_of_model(extraction.source, job, own, scorers, progress)


def _make_parts_of_model(
  source: Source, job: Job, pieces: Sequence[Piece], scorers: Sequence[Score], progress: Progress
) -> None:
  free: queue.SimpleQueue[Score] = queue.SimpleQueue()
  for scorer in scorers:
    free.put(scorer)

  def make_one(piece: Piece) -> None:
    scorer = free.get()
    try:
      shards.save_part(job, piece.name, make_part(scorer, source.texts, piece))
    finally:
      free.put(scorer)
    progress(piece.model, count_texts([piece], source))

  with concurrent.futures.ThreadPoolExecutor(len(scorers)) as pool:
    for done in [pool.submit(make_one, piece) for piece in pieces]:
      done.result()


def scorers_of(
  extraction: Extraction, name: str, devices: Sequence[str], log: Callable[[str], None]
) -> list[Score]:
  """Returns a model loaded on every device, or the one scorer of what needs no model."""
  if name in extraction.constructed:
    return [constructed_scorer(name)]
  if extraction.syntax and name == SYNTAX:
    return [score_syntax]
  # torch is needed by extraction alone.
  from metapers.data import reward_scorer

  model = next(model for model in extraction.models if model.name == name)
  made = [reward_scorer.Scorer(model, extraction.options, device) for device in devices]
  read = extraction.source.texts
  example = made[0].render(read.prompts[0], read.responses[0, 0])
  log(f'{name} ({made[0].version}) reads: {example[:200]!r}')
  return made


def constructed_scorer(name: str) -> Score:
  """Returns the scorer of a constructed reward."""

  def score(prompts: Sequence[str], responses: Sequence[str]) -> Scored:
    scores = constructed_rewards.score([name], prompts, responses)[:, 0]
    return Scored(scores, None, 0, f'constructed {constructed_rewards.VERSION}')

  return score


def score_syntax(prompts: Sequence[str], responses: Sequence[str]) -> Scored:
  """Returns log(1 + each of `syntax.NAMES`) of the responses, since long texts have long counts."""
  counted = np.log1p(syntax.features(responses)).astype(np.float16)
  return Scored(None, counted, 0, f'textblob {importlib.metadata.version("textblob")}')


def make_part(score: Score, read: Texts, piece: Piece) -> Part:
  """Returns the part of a piece: what the model makes of its readable responses."""
  rows = slice(piece.start, piece.stop)
  responses, mask = read.responses[rows], texts.readable(read)[rows]
  if not mask.any():
    return {'num_truncated': np.array(0)}
  prompts = np.broadcast_to(read.prompts[rows, None], responses.shape)
  try:
    found = score(prompts[mask].tolist(), responses[mask].tolist())
  except TextError as error:
    row, response = np.argwhere(mask)[error.text]
    raise ValueError(f'row {piece.start + row}, response {response + 1}: {error}') from error
  part = {'num_truncated': np.array(found.num_truncated), 'version': np.array(found.version)}
  if found.scores is not None:
    part['scores'] = spread(np.where(np.isfinite(found.scores), found.scores, np.nan), mask, np.nan)
  if found.features is not None:
    part['features'] = spread(found.features, mask, 0.0)
  return part


def spread(
  values: Float[np.ndarray, 'N *D'], mask: Bool[np.ndarray, 'n R'], empty: float
) -> np.ndarray:
  """Returns the values of readable responses in their places: [n, R, ...], `empty` elsewhere."""
  made = np.full((*mask.shape, *values.shape[1:]), empty, values.dtype)
  made[mask] = values
  return made
