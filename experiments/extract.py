"""Turns prompts and responses into a feature store: text in, arrays out, once.

    python -m experiments.extract --config=experiments/configs/extract_personal_llm.py --out=STORE

Work is kept in shards in OUT.parts: after a kill at any moment, the same command resumes it. On
several machines: --shard=0/4 ... --shard=3/4, then --merge=FOLDER,FOLDER of the others' parts.
--benchmark measures, on tiny models and the config's texts, whether scores depend on the batch, and
how fast they are.
"""

import pathlib

from absl import flags

from experiments import commands, guide, overrides
from experiments.build import Config
from metapers.data import (
  extracted,
  extraction,
  extras,
  people_tables,
  reward_models,
  sources,
)
from metapers.data.extraction import Extraction
from metapers.data.reward_models import Options
from metapers.data.sources import Source

CONFIG = overrides.DEFINE_config('config', 'What to extract.')
OUT = flags.DEFINE_string('out', None, 'The store to make; of people features.npy by default.')
SHARD = flags.DEFINE_string('shard', '0/1', 'Which share of the work to do here: i/n.')
MERGE = flags.DEFINE_list('merge', [], 'Folders of parts that other machines made.')
DEVICES = flags.DEFINE_list('devices', ['cpu'], 'Devices to spread the work over: cuda:0,cuda:1.')
BENCHMARK = flags.DEFINE_bool('benchmark', False, 'Measure invariance and throughput only.')
SCORES = flags.DEFINE_string('scores', '', 'A table of precomputed scores, joined by prompt_id.')


def main(argv: list[str]) -> None:
  """Runs the command."""
  commands.no_arguments(argv)
  if BENCHMARK.value:
    extras.require('extract', extras.MODELS)
    # torch is needed by extraction alone.
    from metapers.testing import scorer_benchmark

    scorer_benchmark.run_benchmark(CONFIG.value and source_of(CONFIG.value).texts, commands.say)
    return
  config = commands.required(CONFIG)
  encoder = [config.encoder] if config.encoder.model else []
  if not MERGE.value:  # which runs no model
    extraction.require_packages(
      [*config.models, *encoder], config.constructed, syntax=config.syntax
    )
  if config.source.kind == 'people' and OUT.value is None:
    out = pathlib.Path(config.source.path) / people_tables.FEATURES
  else:
    out = pathlib.Path(commands.required(OUT))
  if out.exists():
    raise ValueError(f'{out} exists; give another --out, or remove it')
  is_whole = extracted.extract(
    extraction_of(config),
    out,
    shard=SHARD.value,
    merge=MERGE.value,
    devices=DEVICES.value,
    made_by='experiments.extract',
    log=commands.say,
  )
  if is_whole:
    commands.say(str(out))


def source_of(config: Config) -> Source:
  """Returns the source of a config, with the scores of --scores."""
  scores = {'scores': SCORES.value} if SCORES.value else {}
  return sources.read_source(**config.source.to_dict() | scores)


def extraction_of(config: Config) -> Extraction:
  """Returns what a config extracts."""
  encoder = [config.encoder] if config.encoder.model else []
  given = [each if isinstance(each, str) else dict(each) for each in [*config.models, *encoder]]
  source = source_of(config)
  commands.say(sources.describe_source(source))
  return Extraction(
    source=source,
    models=[reward_models.reward_model(each) for each in given],
    constructed=config.constructed,
    syntax=config.syntax,
    options=Options(**config.options.to_dict()),
    prompts_per_shard=config.prompts_per_shard,
  )


if __name__ == '__main__':
  commands.run(main, lambda: guide.of_extraction('extract'))
