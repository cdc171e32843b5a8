"""Texts through reward models and an encoder into a feature store: once, in shards, resumably.

The work is divided into pieces: one model on some prompts. Each piece makes a part on disk, with
scores [n, R] float32 (NaN where there is nothing to score) or, of the encoder, features [n, R, D]
float16; all parts together make the store.
"""

import concurrent.futures
import json
import os
import pathlib
import queue
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tqdm
from absl import logging

from metapers.core.tables import RewardTable
from metapers.core.types import Bool, Float
from metapers.data import constructed_rewards, feature_store, reward_table, shards, texts
from metapers.data.manifest import Provenance
from metapers.data.reward_models import Options, RewardModel, Scored, TextError
from metapers.data.shards import Job, Part
from metapers.data.sources import Source
from metapers.data.texts import Texts

Score = Callable[[Sequence[str], Sequence[str]], Scored]  # of prompts and responses
Progress = Callable[[str, int], None]  # of the model that is run, and the number of texts done


class Extraction(NamedTuple):
  """What is extracted, and how.

  source: the texts, and scores that are known already. models: reward models and at most one
  encoder. constructed: names of constructed rewards. options: how the models are run.
  prompts_per_shard: in one piece of the work.
  """

  source: Source
  models: Sequence[RewardModel] = ()
  constructed: Sequence[str] = ()
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


class Extracted(NamedTuple):
  """What the parts hold together.

  scores: model -> [P, R]. features: [P, R, D] on disk, or None. num_truncated: model -> texts cut.
  versions: model -> its version.
  """

  scores: dict[str, Float[np.ndarray, 'P R']]
  features: Float[np.ndarray, 'P R D'] | None
  num_truncated: dict[str, int]
  versions: dict[str, str]


def extract(
  extraction: Extraction,
  out: str | os.PathLike,
  *,
  shard: str = '0/1',
  merge: Sequence[str | os.PathLike] = (),
  devices: Sequence[str] = ('cpu',),
  made_by: str = 'metapers.data.extraction',
  log: Callable[[str], None] = logging.info,
) -> bool:
  """Does what is missing of the work, and writes the store once all of it is there.

  Args:
    extraction: what is extracted.
    out: folder of the store; parts of it are kept in OUT.parts until then.
    shard: which share of the work to do here, as `share` reads it.
    merge: folders of parts that other machines made; then nothing is done here but to join them.
    devices: as of `make_parts`.
    made_by: what calls this, for the store's provenance.
    log: is given lines of progress.

  Returns:
    Whether the store was written.

  Raises:
    ValueError: for parts of another extraction, or as `pieces_of` and `join`.
  """
  out = pathlib.Path(out)
  pieces = pieces_of(extraction)
  job = shards.claim_job(out.with_name(f'{out.name}.parts'), recipe(extraction))
  if merge:
    shards.merge_parts(job, merge, [piece.name for piece in pieces])
  else:
    mine = missing_pieces(job, share(pieces, shard))
    with tqdm.tqdm(total=count_texts(mine, extraction.source), unit='text') as bar:

      def progress(model: str, num_texts: int) -> None:
        bar.set_description(model)
        bar.update(num_texts)

      make_parts(extraction, job, mine, devices, log=log, progress=progress)
  missing = missing_pieces(job, pieces)
  if missing:
    log(f'{len(pieces) - len(missing)} of {len(pieces)} shards are made, in {job.folder}')
    return False
  made = join(job, pieces, extraction.source.texts)
  table = table_of(extraction, made)
  log(f'{reward_table.count_masked(table)}; texts cut: {made.num_truncated}')
  sizes = reward_table.split_sizes(table.prompt_split)
  log('prompts: ' + ', '.join(f'{size} {name}' for name, size in sizes.items()))
  provenance = provenance_of(extraction, made, made_by)
  kept = texts.to_table(extraction.source.texts)
  feature_store.write_store(out, table, provenance, texts=kept)
  features_file(job).unlink(missing_ok=True)
  return True


def recipe(extraction: Extraction) -> dict[str, Any]:
  """Returns what parts must agree in to be joined: texts, models, and how these are run."""
  return {
    'texts': texts.digest(extraction.source.texts),
    'models': [model._asdict() for model in extraction.models],
    'constructed': list(extraction.constructed),
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
  return divide(names, len(extraction.source.texts.prompts), extraction.prompts_per_shard)


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
  """Returns a model loaded on every device, or the one scorer of a constructed reward."""
  if name in extraction.constructed:
    return [constructed_scorer(name)]
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
    return Scored(scores, None, 0, 'constructed')

  return score


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


def features_file(job: Job) -> pathlib.Path:
  """Returns the file that joined features are mapped to, of no use once the store is written."""
  return job.folder / '.features.npy'


def join(job: Job, pieces: Sequence[Piece], read: Texts) -> Extracted:
  """Returns all parts joined; features are written to a file piece by piece and mapped.

  Raises:
    ValueError: for a part that is missing or damaged, parts of different versions of a model, or
      features of several models.
  """
  scores: dict[str, np.ndarray] = {}
  num_truncated: dict[str, int] = {}
  versions: dict[str, str] = {}
  features, featured = None, None
  for piece in pieces:
    part = shards.load_part(job, piece.name)
    cut = num_truncated.get(piece.model, 0)
    num_truncated[piece.model] = cut + int(part['num_truncated'])
    rows = slice(piece.start, piece.stop)
    if 'version' in part:
      version = str(part['version'])
      if versions.setdefault(piece.model, version) != version:
        raise ValueError(
          f'{piece.name} was made by {version} of {piece.model}, others by '
          f'{versions[piece.model]}; delete it and run the same command again'
        )
    if 'scores' in part:
      whole = scores.setdefault(piece.model, np.full(read.responses.shape, np.nan, np.float32))
      whole[rows] = part['scores']
    if 'features' in part:
      if features is None:
        features, featured = _map_features(job, read, part['features']), piece.model
      if piece.model != featured:
        raise ValueError(f'features of {featured} and of {piece.model}; a store holds one of them')
      features[rows] = part['features']
  return Extracted(scores, features, num_truncated, versions)


def _map_features(job: Job, read: Texts, first: np.ndarray) -> Any:
  shape = (*read.responses.shape, first.shape[-1])
  # D may be 4,096: more than fits in memory.
  return np.lib.format.open_memmap(features_file(job), 'w+', first.dtype, shape)


def store_source(extraction: Extraction) -> str:
  """Returns the line on a store's source that is shown with every result."""
  label = ' with constructed rewards' if extraction.constructed else ''
  return extraction.source.name + label


def table_of(extraction: Extraction, made: Extracted) -> RewardTable:
  """Returns the table of a store: scores that were known and made, and the features.

  Raises:
    ValueError: without any scores.
  """
  scores, read = extraction.source.scores | made.scores, extraction.source.texts
  if not scores:
    raise ValueError(
      'nothing scores these texts; give models, constructed rewards or a table of scores'
    )
  rewards = np.stack(list(scores.values()), -1).astype(np.float32)
  mask = reward_table.usable_responses(rewards, read.responses)
  mean, std = reward_table.statistics(rewards, mask, read.prompt_split)
  return RewardTable(
    rewards=rewards,
    features=made.features,
    mask=mask,
    reward_models=tuple(scores),
    response_model=read.response_model,
    response_models=read.response_models,
    mean=mean,
    std=std,
    prompt_split=read.prompt_split,
    source=store_source(extraction),
    manifest_hash='',
  )


def provenance_of(extraction: Extraction, made: Extracted, command: str) -> Provenance:
  """Returns where a store comes from; `command` names what made it, such as a module."""
  how = {
    'options': extraction.options._asdict(),
    'truncated': made.num_truncated,
    'versions': made.versions,
  }
  encoder = next((model for model in extraction.models if model.pooling != 'score'), None)
  extractor = encoder if made.features is not None else None
  return Provenance(
    source=store_source(extraction),
    made_by=f'{command} {json.dumps(how)}',
    licence=extraction.source.licence,
    extractor=extractor.model if extractor else '',
    revision=made.versions[extractor.name] if extractor else '',
  )
