"""Shows and checks a feature store, or the synthetic one.

python -m experiments.store info|verify|stats|diversity [--store=FOLDER]
"""

import pathlib
import sys

from absl import flags

from experiments import commands
from experiments.commands import say
from metapers.analysis import vote_table
from metapers.core.tables import RewardTable
from metapers.data import feature_store, manifest, store_summary, synthetic

STORE = flags.DEFINE_string('store', 'synthetic', 'Folder of a store, or `synthetic`.')
FEATURE_R2 = flags.DEFINE_float('feature_r2', 0.5, "Of the synthetic store's features.")


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


COMMANDS = {'info': info, 'verify': verify, 'stats': stats, 'diversity': diversity}


def main(argv: list[str]) -> None:
  """Runs the command that the first argument names."""
  if len(argv) != 2 or argv[1] not in COMMANDS:
    raise ValueError(
      f'expected one of {", ".join(COMMANDS)}, got {" ".join(argv[1:]) or "nothing"}'
    )
  COMMANDS[argv[1]]()


if __name__ == '__main__':
  commands.run(main)
