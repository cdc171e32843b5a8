"""Shows and checks a feature store, or the synthetic one, or makes one of an array of scores.

    python -m experiments.store info|verify|stats|diversity [--store=FOLDER]
    python -m experiments.store import --scores=FILE.npy --out=STORE

FILE.npy holds raw scores [prompts, responses, reward models], NaN where there is none.
"""

import pathlib
import sys
from collections.abc import Sequence

import numpy as np
from absl import flags

from experiments import commands
from experiments.commands import say
from metapers.analysis import vote_table
from metapers.core import array_files
from metapers.core.tables import RewardTable
from metapers.data import (
  feature_store,
  frames,
  manifest,
  reward_table,
  score_arrays,
  store_summary,
  synthetic,
  texts,
)

STORE = flags.DEFINE_string('store', 'synthetic', 'Folder of a store, or `synthetic`.')
FEATURE_R2 = flags.DEFINE_float('feature_r2', 0.5, "Of the synthetic store's features.")
SCORES = flags.DEFINE_string('scores', None, 'A .npy file of scores to import.')
OUT = flags.DEFINE_string('out', None, 'The store to make of them.')
REWARD_MODELS = flags.DEFINE_list('reward_models', [], 'Names along the last axis of the scores.')
TEXTS = flags.DEFINE_string(
  'texts', '', 'A .parquet, .jsonl or .csv file of the prompts [and response_1, ...], in order.'
)
FEATURES = flags.DEFINE_string('features', '', 'A .npy file of features [prompts, responses, D].')
SOURCE = flags.DEFINE_string('source', '', 'One line on the scores; the name of the file if unset.')
LICENCE = flags.DEFINE_string('licence', '', 'Of the data, a line.')


def open_table(*, verify: bool = True) -> RewardTable:
  """Returns the table of the store that the flags name."""
  if STORE.value == 'synthetic':
    return synthetic.synthetic_store(feature_r2=FEATURE_R2.value)
  return feature_store.open_store(STORE.value, verify=verify)


def info() -> None:
  """Prints what is in the store and where it comes from."""
  say(store_summary.contents(open_table(verify=False)))
  if STORE.value != 'synthetic':
    content, _ = manifest.read_store_manifest(pathlib.Path(STORE.value))
    for name in ('made_by', 'licence', 'extractor', 'revision'):
      say(f'{name}: {content[name] or "none"}')


def verify() -> None:
  """Checks every file against the manifest; exits with 1 if one does not fit."""
  try:
    table = open_table()
  except ValueError as error:
    sys.stderr.write(f'bad store: {commands.one_line(error)}\n')
    sys.exit(1)
  say(f'good: {table.source}, manifest sha256 {table.manifest_hash}')


def stats() -> None:
  """Prints masked responses, each reward model's scores, and how much of them features explain."""
  table = open_table()
  say(store_summary.as_text(table, store_summary.summarize(table)))


def diversity() -> None:
  """Prints how much simulated users disagree, beside PersonalLLM's published table, in percent."""
  say(vote_table.as_text(open_table()))


def import_scores() -> None:
  """Makes a store of an array of scores, and prints what is in it."""
  path, out = pathlib.Path(commands.required(SCORES)), pathlib.Path(commands.required(OUT))
  if out.exists():
    raise ValueError(f'{out} exists; give another --out, or remove it')
  scores = array_files.read_npy(path)
  read, prompts = read_texts(TEXTS.value) if TEXTS.value else (None, ())
  features = None
  if FEATURES.value:
    features = array_files.read_npy(FEATURES.value)
    features = features if features.dtype == np.float16 else features.astype(np.float32)
  source = SOURCE.value or path.name
  table = score_arrays.from_scores(
    scores, REWARD_MODELS.value, texts=read, prompts=prompts, features=features, source=source
  )
  origin = manifest.Provenance(
    source,
    f'experiments.store import {path.name}',
    LICENCE.value,
    extractor='given' if FEATURES.value else '',
  )
  kept = None if read is None else texts.to_table(read)
  feature_store.write_store(out, table, origin, texts=kept)
  say(store_summary.contents(feature_store.open_store(out)))
  missing, repeated, total = reward_table.count_masked(table)
  say(f'never shown: {missing} missing and {repeated} repeated of {total} responses; {out}')


def read_texts(path: str) -> tuple[texts.Texts | None, Sequence[str]]:
  """Returns the texts of a file, or without responses the prompts alone."""
  frame = frames.read_frame(path)
  if 'responses' in frame or 'response_1' in frame:
    return texts.from_frame(frame), ()
  if 'prompt' not in frame:
    raise ValueError(f'{path} has no column prompt; it has {", ".join(map(str, frame))}')
  return None, texts.strings(frame['prompt'].to_numpy(object), 'prompt').tolist()


COMMANDS = {
  'info': info, 'verify': verify, 'stats': stats, 'diversity': diversity, 'import': import_scores,
}  # fmt: skip


def main(argv: list[str]) -> None:
  """Runs the command that the first argument names."""
  if len(argv) != 2 or argv[1] not in COMMANDS:
    raise ValueError(
      f'expected one of {", ".join(COMMANDS)}, got {" ".join(argv[1:]) or "nothing"}'
    )
  COMMANDS[argv[1]]()


if __name__ == '__main__':
  commands.run(main)
