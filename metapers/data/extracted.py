"""What an extraction comes to: its parts joined, as a feature store or as features alone."""

import io
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tqdm
from absl import logging

from metapers.core import files
from metapers.core.tables import RewardTable
from metapers.core.types import Float
from metapers.data import (
  extraction,
  feature_store,
  people_tables,
  reward_models,
  reward_table,
  shards,
  texts,
)
from metapers.data.extraction import Extraction, Piece
from metapers.data.manifest import Provenance
from metapers.data.reward_models import RewardModel
from metapers.data.shards import Job
from metapers.data.texts import Texts

NO_SCORES = 'nothing scores these texts; give models, constructed rewards or a table of scores'


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
  wanted: Extraction,
  out: str | os.PathLike,
  *,
  shard: str = '0/1',
  merge: Sequence[str | os.PathLike] = (),
  devices: Sequence[str] = ('cpu',),
  made_by: str = 'metapers.data.extracted',
  log: Callable[[str], None] = logging.info,
) -> bool:
  """Does what is missing of the work, and writes the store once all of it is there.

  Args:
    wanted: what is extracted.
    out: folder of the store, or an .npy file of features alone; parts of it are kept in OUT.parts
      until then.
    shard: which share of the work to do here, as `share` reads it.
    merge: folders of parts that other machines made; then nothing is done here but to join them.
    devices: as of `make_parts`.
    made_by: what calls this, for the store's provenance.
    log: is given lines of progress.

  Returns:
    Whether the store was written.

  Raises:
    ValueError: for parts of another extraction, packages that are missing, or as `check`,
      `pieces_of`, `check_model` and `join`.
  """
  out = pathlib.Path(out)
  check(wanted, out)
  if not merge:
    extraction.require_packages(wanted.models, wanted.constructed, syntax=wanted.syntax)
  pieces = extraction.pieces_of(wanted)
  mine = extraction.share(pieces, shard)
  job = shards.claim_job(out.with_name(f'{out.name}.parts'), extraction.recipe(wanted))
  if merge:
    shards.merge_parts(job, merge, [piece.name for piece in pieces])
  else:
    mine = extraction.missing_pieces(job, mine)
    extraction.check_models(wanted, mine)
    with tqdm.tqdm(total=extraction.count_texts(mine, wanted.source), unit='text') as bar:

      def progress(model: str, num_texts: int) -> None:
        bar.set_description(model)
        bar.update(num_texts)

      for own in extraction.by_model(wanted, pieces):
        here = [piece for piece in mine if piece in own]
        extraction.make_parts(wanted, job, here, devices, log=log, progress=progress)
        check_model(job, own, wanted)
  missing = extraction.missing_pieces(job, pieces)
  if missing:
    log(f'{len(pieces) - len(missing)} of {len(pieces)} shards are made, in {job.folder}')
    return False
  made = join(job, pieces, wanted.source.texts)
  write = write_features if out.suffix == '.npy' else write_store
  log(write(wanted, made, out, made_by))
  if job.folder.exists():  # not where all scores were known, and nothing was made
    shutil.rmtree(job.folder)  # or parts would stand for what models say after a change of them
  return True


def check(wanted: Extraction, out: pathlib.Path) -> None:
  """Refuses what would be no store, or no features, once everything had been made.

  Raises:
    ValueError: for options that cannot be, texts that nothing scores, scores that are known and
      would be made anew or are all the same, or features that nothing makes or of an empty text.
  """
  reward_models.checked_options(wanted.options)
  encoders = encoders_of(wanted)
  scores, read = wanted.source.scores, wanted.source.texts
  made = [*wanted.constructed, *(one.name for one in wanted.models if one.name not in encoders)]
  both = [name for name in made if name in scores]
  if both:
    raise ValueError(
      f'scores {", ".join(both)} are known already; leave out what makes them, or give fields of a '
      'model of another name'
    )
  if out.suffix == '.npy':
    check_items(wanted, has_features=bool(encoders))
    if made:
      raise ValueError(
        f'{out} holds features alone, and {", ".join(made)} would score: leave them out; a store '
        'of scores is made of prompts with two responses or more (experiments/configs/extract.py)'
      )
  elif not scores and not wanted.constructed and all(m.name in encoders for m in wanted.models):
    raise ValueError(NO_SCORES)
  else:
    reward_table.check_varied(scores, texts.readable(read), read.prompt_split)


def encoders_of(wanted: Extraction) -> list[str]:
  """Returns the names of what makes features in place of scores.

  Raises:
    ValueError: for more than one encoder.
  """
  encoders = [model.name for model in wanted.models if model.pooling != 'score']
  if len(encoders) > 1:
    raise ValueError(f'features are made by one encoder; given are {" and ".join(encoders)}')
  return encoders + ([extraction.SYNTAX] if wanted.syntax else [])


def check_items(wanted: Extraction, *, has_features: bool) -> None:
  """Refuses features of items that nothing makes, or of a text that is empty.

  Raises:
    ValueError: naming the items.
  """
  empty = np.flatnonzero(~texts.readable(wanted.source.texts)[:, 0])
  if not has_features or empty.size:
    nobody = 'no encoder was given, and syntax is False'
    what = f'items {empty[:5].tolist()} have no text' if empty.size else nobody
    raise ValueError(f'no features can be made: {what}')


def check_model(job: Job, pieces: Sequence[Piece], wanted: Extraction) -> None:
  """Refuses a model that gives every response the same score, once all of its parts are there.

  Raises:
    ValueError: naming it, before other models are run.
  """
  (name,) = {piece.model for piece in pieces}
  if name not in encoders_of(wanted) and not extraction.missing_pieces(job, pieces):
    read = wanted.source.texts
    made = join(job, pieces, read).scores
    reward_table.check_varied(made, texts.readable(read), read.prompt_split)


def features_file(job: Job) -> pathlib.Path:
  """Returns the file that joined features are mapped to, of no use once the store is written."""
  return job.folder / '.features.npy'


def join(job: Job, pieces: Sequence[Piece], read: Texts) -> Extracted:
  """Returns all parts joined; features are written to a file piece by piece and mapped.

  Features of several models stand side by side, in the order of the pieces.

  Raises:
    ValueError: for a part that is missing or damaged, or parts of different versions of a model.
  """
  scores: dict[str, np.ndarray] = {}
  num_truncated: dict[str, int] = {}
  versions: dict[str, str] = {}
  columns, features = feature_columns(job, pieces), None
  if columns:
    width = max(place.stop for place in columns.values())
    # D may be 4,096: more than fits in memory.
    features = np.lib.format.open_memmap(
      features_file(job), 'w+', np.float16, (*read.responses.shape, width)
    )
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
    if features is not None and 'features' in part:
      features[rows, :, columns[piece.model]] = part['features']
  return Extracted(scores, features, num_truncated, versions)


def feature_columns(job: Job, pieces: Sequence[Piece]) -> dict[str, slice]:
  """Returns the columns of each model that makes features, by its first part that has any."""
  columns: dict[str, slice] = {}
  scoring: set[str] = set()
  for piece in pieces:
    if piece.model not in columns and piece.model not in scoring:
      part = shards.load_part(job, piece.name)
      if 'features' in part:
        start = max((place.stop for place in columns.values()), default=0)
        columns[piece.model] = slice(start, start + part['features'].shape[-1])
      elif 'scores' in part:
        scoring.add(piece.model)
  return columns


def store_source(wanted: Extraction) -> str:
  """Returns the line on a store's source that is shown with every result."""
  label = ' with constructed rewards' if wanted.constructed else ''
  return wanted.source.name + label


def table_of(wanted: Extraction, made: Extracted) -> RewardTable:
  """Returns the table of a store: scores that were known and made, and the features.

  Raises:
    ValueError: without any scores.
  """
  scores, read = wanted.source.scores | made.scores, wanted.source.texts
  if not scores:
    raise ValueError(NO_SCORES)
  rewards = np.stack(list(scores.values()), -1).astype(np.float32)
  mask = reward_table.usable_responses(rewards, read.responses)
  mean, std = reward_table.statistics(rewards, mask, read.prompt_split, tuple(scores))
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
    source=store_source(wanted),
    manifest_hash='',
  )


def provenance_of(wanted: Extraction, made: Extracted, command: str) -> Provenance:
  """Returns where a store comes from; `command` names what made it, such as a module."""
  how = {
    'models': {model.name: spec_of(model) for model in wanted.models},
    'options': wanted.options._asdict(),
    **({'cut': reward_models.CUT} if wanted.models else {}),
    'truncated': made.num_truncated,
    'versions': made.versions,
  }
  encoders = [model for model in wanted.models if model.pooling != 'score']
  names = [model.model for model in encoders] + ([extraction.SYNTAX] if wanted.syntax else [])
  return Provenance(
    source=store_source(wanted),
    made_by=f'{command} {json.dumps(how)}',
    licence=wanted.source.licence,
    extractor=' and '.join(names) if made.features is not None else '',
    revision=' and '.join(made.versions.get(model.name, '') for model in encoders),
  )


def spec_of(model: RewardModel) -> dict[str, Any]:
  """Returns how a model is read and scores texts, as JSON values.

  Its version is kept beside it. Folders are left out: they may move, and versions tell them apart.
  """
  spec = model._asdict()
  del spec['name'], spec['revision']
  for name in ('model', 'tokenizer'):
    if spec[name] and (os.path.isabs(spec[name]) or os.path.isdir(spec[name])):
      del spec[name]
  return spec


def write_store(wanted: Extraction, made: Extracted, out: pathlib.Path, made_by: str) -> str:
  """Writes the store of an extraction, and returns what is in it."""
  table = table_of(wanted, made)
  provenance = provenance_of(wanted, made, made_by)
  kept = texts.to_table(wanted.source.texts)
  feature_store.write_store(out, table, provenance, texts=kept)
  sizes = reward_table.split_sizes(table.prompt_split)
  return (
    f'{reward_table.count_masked(table)}; texts cut: {made.num_truncated}\nprompts: '
    + ', '.join(f'{size} {name}' for name, size in sizes.items())
  )


def write_features(wanted: Extraction, made: Extracted, out: pathlib.Path, made_by: str) -> str:
  """Writes the features [I, D] of the first response to each prompt, and returns what is in it.

  Beside it stands where they are from, and of which items in which order, as NAME.json.

  Raises:
    ValueError: without features, or for a text that is empty.
  """
  check_items(wanted, has_features=made.features is not None)
  assert made.features is not None
  about = provenance_of(wanted, made, made_by)._asdict() | {
    people_tables.MADE_OF: items_of(wanted),
    people_tables.MADE_BY: features_made_by(wanted, made),
  }
  files.write_json(out.with_suffix('.json'), about)  # first: a kill leaves no features without it
  content = io.BytesIO()
  np.save(content, made.features[:, 0])
  files.write_atomically(out, content.getvalue())
  return f'features {list(made.features[:, 0].shape)}; texts cut: {made.num_truncated}'


def features_made_by(wanted: Extraction, made: Extracted) -> dict[str, Any]:
  """Returns what `text_features.features_of` needs to make features of other texts alike."""
  assert made.features is not None
  encoder = next((model for model in wanted.models if model.pooling != 'score'), None)
  spec = None
  if encoder is not None:
    is_folder = os.path.isdir(encoder.model)
    spec = encoder._asdict() | ({'model': os.path.abspath(encoder.model)} if is_folder else {})
  return {
    'encoder': spec,
    'syntax': wanted.syntax,
    'options': wanted.options._asdict(),
    'versions': made.versions,
    'num_features': made.features.shape[-1],
  }


def items_of(wanted: Extraction) -> dict[str, str]:
  """Returns the digests of what features of items are of: ids, texts, and contexts if read."""
  read = wanted.source.texts
  columns = {'item_id': map(str, read.prompt_ids), 'text': read.responses[:, 0]}
  if any(model.template != 'plain' for model in wanted.models):
    columns['context'] = read.prompts
  return people_tables.digests(columns)
