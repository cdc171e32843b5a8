"""Turns prompts and responses into a feature store: text in, arrays out, once.

    python -m experiments.extract --config=experiments/configs/extract_personal_llm.py --out=STORE

Work is kept in shards in OUT.parts: killed at any moment, the same command goes on. On several
machines: --shard=0/4 ... --shard=3/4, then --merge=FOLDER,FOLDER of the others' parts. --benchmark
measures, on tiny models and the config's texts, whether scores depend on the batch, and how fast.
"""

import concurrent.futures
import json
import pathlib
import queue
from collections.abc import Sequence
from typing import Any

import numpy as np
import tqdm
from absl import flags
from ml_collections import config_flags

from experiments import commands
from experiments.build import Config
from metapers.core.population import SPLITS
from metapers.core.tables import RewardTable
from metapers.data import (
  constructed_rewards,
  extraction,
  feature_store,
  personal_llm,
  reward_models,
  reward_table,
  shards,
  sources,
  texts,
)
from metapers.data.extraction import Extracted, Piece, Scored
from metapers.data.manifest import Provenance
from metapers.data.reward_models import RewardModel
from metapers.data.shards import Job
from metapers.data.sources import Source

CONFIG = config_flags.DEFINE_config_file('config', None, 'What to extract.', lock_config=True)
OUT = flags.DEFINE_string('out', None, 'Folder of the store to make.')
SHARD = flags.DEFINE_string('shard', '0/1', 'Which share of the work to do here: i/n.')
MERGE = flags.DEFINE_list('merge', [], 'Folders of parts that other machines made.')
DEVICES = flags.DEFINE_list('devices', ['cpu'], 'Devices to spread the work over: cuda:0,cuda:1.')
BENCHMARK = flags.DEFINE_bool('benchmark', False, 'Measure invariance and throughput only.')
SCORES = flags.DEFINE_string('scores', '', 'A table of precomputed scores, joined by prompt_id.')


def main(argv: list[str]) -> None:
  """Runs the command."""
  commands.no_arguments(argv)
  if BENCHMARK.value:
    # torch is needed by extraction alone.
    from experiments import extraction_benchmark

    source = CONFIG.value and sources.read(**CONFIG.value.source.to_dict())
    extraction_benchmark.run(source.texts if source else None)
    return
  config, out = commands.required(CONFIG), pathlib.Path(commands.required(OUT))
  if SCORES.value:
    config.source.scores = SCORES.value
  extract(config, out)


def extract(config: Config, out: pathlib.Path) -> None:
  """Does what is missing of the work, and writes the store when all of it is there."""
  if out.exists():
    raise ValueError(f'{out} exists; give another --out, or look at it by experiments.store info')
  source = sources.read(**config.source.to_dict())
  tell(source)
  models = models_of(config)
  job = shards.claim(out.with_name(f'{out.name}.parts'), recipe(config, source, models))
  names = [model.name for model in models] + list(config.constructed)
  size = len(source.texts.prompts)
  pieces = extraction.plan(names, size, config.prompts_per_shard)
  if MERGE.value:
    shards.merge(job, MERGE.value, [piece.name for piece in pieces])
  else:
    work(config, job, source, models, extraction.share(pieces, SHARD.value))
  missing = [piece for piece in pieces if not shards.path_of(job, piece.name).exists()]
  if missing:
    commands.say(f'{len(pieces) - len(missing)} of {len(pieces)} shards are made, in {job.folder}')
    return
  commands.say(str(write(config, out, source, extraction.join(job, pieces, source.texts))))
  extraction.features_file(job).unlink(missing_ok=True)


def tell(source: Source) -> None:
  """Prints what was read, what is left out, and how published statistics compare."""
  shape = source.texts.responses.shape
  commands.say(f'{source.name}: {shape[0]} prompts x {shape[1]} responses')
  commands.say(f'never shown: {texts.left_out(source.texts)._asdict()}')
  if set(source.scores) >= set(personal_llm.REWARD_MODELS):
    loaded = personal_llm.Loaded(source.texts, source.scores)
    commands.say(personal_llm.as_text(personal_llm.statistics(loaded)))


def models_of(config: Config) -> list[RewardModel]:
  """Returns the models that score, and the encoder.

  Raises:
    ValueError: for a name or field that is not known.
  """
  known = reward_models.named()
  made = []
  for given in config.models:
    if isinstance(given, str) and given not in known:
      raise ValueError(f'unknown reward model {given!r}; known: {", ".join(known)}, or give fields')
    made.append(known[given] if isinstance(given, str) else RewardModel(**dict(given)))
  wrong = [name for name in config.constructed if name not in constructed_rewards.CONSTRUCTED]
  if wrong:
    raise ValueError(
      f'unknown constructed rewards {", ".join(wrong)}; known: '
      f'{", ".join(constructed_rewards.CONSTRUCTED)}'
    )
  if config.encoder.model:
    made.append(RewardModel(**config.encoder.to_dict()))
  return [reward_models.check(model) for model in made]


def recipe(config: Config, source: Source, models: Sequence[RewardModel]) -> dict[str, Any]:
  """Returns what parts must agree in: texts, models, and how these are run."""
  return {
    'texts': texts.digest(source.texts),
    'models': [model._asdict() for model in models],
    'constructed': list(config.constructed),
    'options': config.options.to_dict(),
    'prompts_per_shard': config.prompts_per_shard,
  }


def work(
  config: Config,
  job: Job,
  source: Source,
  models: Sequence[RewardModel],
  pieces: Sequence[Piece],
) -> None:
  """Makes the parts that are missing, model after model, spread over the devices."""
  todo = [piece for piece in pieces if not shards.path_of(job, piece.name).exists()]
  width = source.texts.responses.shape[1]
  with tqdm.tqdm(total=sum((p.stop - p.start) * width for p in todo), unit='text') as bar:
    for name in dict.fromkeys(piece.model for piece in todo):
      mine = [piece for piece in todo if piece.model == name]
      scorers = scorers_of(config, name, models, source)
      bar.set_description(name)
      free: queue.SimpleQueue = queue.SimpleQueue()
      for scorer in scorers:
        free.put(scorer)

      def one(piece: Piece, free: queue.SimpleQueue = free) -> None:
        scorer = free.get()
        try:
          shards.save(job, piece.name, extraction.make_part(scorer, source.texts, piece))
        finally:
          free.put(scorer)
        bar.update((piece.stop - piece.start) * width)

      with concurrent.futures.ThreadPoolExecutor(len(scorers)) as pool:
        for done in [pool.submit(one, piece) for piece in mine]:
          done.result()


def scorers_of(
  config: Config, name: str, models: Sequence[RewardModel], source: Source
) -> list[extraction.Score]:
  """Loads a model on every device, or returns a constructed reward."""
  if name in config.constructed:
    return [constructed(name)]
  # torch is needed by extraction alone.
  from metapers.data import reward_scorer

  model = reward_models.named(tuple(models))[name]
  features = model.pooling != 'score'
  options = reward_scorer.Options(**config.options.to_dict(), features=features)
  made = [reward_scorer.Scorer(model, options, device) for device in DEVICES.value]
  example = made[0].render(source.texts.prompts[0], source.texts.responses[0, 0])
  commands.say(f'{name} ({made[0].version}) reads: {example[:200]!r}')
  return made


def constructed(name: str) -> extraction.Score:
  """Makes a scorer of a constructed reward."""

  def score(prompts: Sequence[str], responses: Sequence[str]) -> Scored:
    scores = constructed_rewards.score([name], prompts, responses)[:, 0]
    return Scored(scores, None, 0, 'constructed')

  return score


def write(config: Config, out: pathlib.Path, source: Source, made: Extracted) -> pathlib.Path:
  """Writes the store and prints what is masked and what was cut."""
  scores = source.scores | made.scores
  if not scores:
    raise ValueError('nothing scores these texts: name models, constructed rewards or --scores')
  rewards = np.stack(list(scores.values()), -1).astype(np.float32)
  read = source.texts
  mask = reward_table.usable_responses(rewards, read.responses)
  mean, std = reward_table.statistics(rewards, mask, read.prompt_split)
  labels = ' with constructed rewards' if config.constructed else ''
  table = RewardTable(
    rewards=rewards,
    features=made.features,
    mask=mask,
    reward_models=tuple(scores),
    response_model=read.response_model,
    response_models=read.response_models,
    mean=mean,
    std=std,
    prompt_split=read.prompt_split,
    source=source.name + labels,
    manifest_hash='',
  )
  how = json.dumps(
    {
      'options': config.options.to_dict(),
      'truncated': made.num_truncated,
      'versions': made.versions,
    }
  )
  provenance = Provenance(
    source=source.name + labels,
    made_by=f'experiments.extract {how}',
    licence=source.licence,
    extractor=config.encoder.model if made.features is not None else '',
    revision=made.versions.get(config.encoder.name, ''),
  )
  commands.say(f'{reward_table.count_masked(table)}; texts cut: {made.num_truncated}')
  counts = np.bincount(read.prompt_split, minlength=len(SPLITS))
  commands.say('prompts: ' + ', '.join(f'{n} {name}' for name, n in zip(SPLITS, counts)))
  return feature_store.write_store(out, table, provenance, texts=texts.to_table(read))


if __name__ == '__main__':
  commands.run(main)
