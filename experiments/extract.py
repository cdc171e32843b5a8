"""Turns prompts and responses into a feature store: text in, arrays out, once.

    python -m experiments.extract --config=experiments/configs/extract_personal_llm.py --out=STORE

Work is kept in shards in OUT.parts: after a kill at any moment, the same command resumes it. On
several machines: --shard=0/4 ... --shard=3/4, then --merge=FOLDER,FOLDER of the others' parts.
--benchmark measures, on tiny models and the config's texts, whether scores depend on the batch, and
how fast they are.
"""

import pathlib

import tqdm
from absl import flags
from ml_collections import config_flags

from experiments import commands
from experiments.build import Config
from metapers.data import (
  extraction,
  feature_store,
  reward_models,
  reward_table,
  shards,
  sources,
  texts,
)
from metapers.data.extraction import Extraction, Piece
from metapers.data.reward_models import Options
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
    from metapers.testing import scorer_benchmark

    scorer_benchmark.run_benchmark(CONFIG.value and source_of(CONFIG.value).texts, commands.say)
    return
  config, out = commands.required(CONFIG), pathlib.Path(commands.required(OUT))
  if out.exists():
    raise ValueError(f'{out} exists; give another --out, or look at it by experiments.store info')
  extract(extraction_of(config), out)


def source_of(config: Config) -> Source:
  """Returns the source of a config, with the scores of --scores."""
  scores = {'scores': SCORES.value} if SCORES.value else {}
  return sources.read_source(**config.source.to_dict() | scores)


def extraction_of(config: Config) -> Extraction:
  """Returns what a config extracts."""
  encoder = [config.encoder] if config.encoder.model else []
  given = [each if isinstance(each, str) else dict(each) for each in [*config.models, *encoder]]
  return Extraction(
    source=source_of(config),
    models=[reward_models.reward_model(each) for each in given],
    constructed=config.constructed,
    options=Options(**config.options.to_dict()),
    prompts_per_shard=config.prompts_per_shard,
  )


def extract(wanted: Extraction, out: pathlib.Path) -> None:
  """Does what is missing of the work, and writes the store once every part of it is there."""
  commands.say(sources.describe_source(wanted.source))
  pieces = extraction.pieces_of(wanted)
  job = shards.claim_job(out.with_name(f'{out.name}.parts'), extraction.recipe(wanted))
  if MERGE.value:
    shards.merge_parts(job, MERGE.value, [piece.name for piece in pieces])
  else:
    make_parts(wanted, job, extraction.share(pieces, SHARD.value))
  missing = extraction.missing_pieces(job, pieces)
  if missing:
    commands.say(f'{len(pieces) - len(missing)} of {len(pieces)} shards are made, in {job.folder}')
    return
  write_store(wanted, job, pieces, out)


def make_parts(wanted: Extraction, job: Job, pieces: list[Piece]) -> None:
  """Makes the parts that are missing, under a bar of progress."""
  missing = extraction.missing_pieces(job, pieces)
  with tqdm.tqdm(total=extraction.count_texts(missing, wanted.source), unit='text') as bar:

    def progress(model: str, num_texts: int) -> None:
      bar.set_description(model)
      bar.update(num_texts)

    extraction.make_parts(wanted, job, missing, DEVICES.value, log=commands.say, progress=progress)


def write_store(wanted: Extraction, job: Job, pieces: list[Piece], out: pathlib.Path) -> None:
  """Writes the store, and prints what is masked and what was cut."""
  read = wanted.source.texts
  made = extraction.join(job, pieces, read)
  table = extraction.table_of(wanted, made)
  commands.say(f'{reward_table.count_masked(table)}; texts cut: {made.num_truncated}')
  sizes = reward_table.split_sizes(table.prompt_split)
  commands.say('prompts: ' + ', '.join(f'{size} {name}' for name, size in sizes.items()))
  provenance = extraction.provenance_of(wanted, made, 'experiments.extract')
  feature_store.write_store(out, table, provenance, texts=texts.to_table(read))
  commands.say(str(out))
  extraction.features_file(job).unlink(missing_ok=True)


if __name__ == '__main__':
  commands.run(main)
