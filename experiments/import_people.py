"""Makes a folder of people's tables of one file of choices between texts.

    python -m experiments.import_people --file=FILE --out=FOLDER

FILE is a .csv, .jsonl or .parquet with a row for each choice: who was asked, the prompt, two texts
and which of them was preferred (response_a, response_b, choice), or chosen and rejected. Columns of
usual names are found, others are given: --user=WHO --a=LEFT. FOLDER holds items.csv and
comparisons.csv as docs/data.md describes them, and source.json, which lists the rows left out.
"""

import pathlib

from absl import flags, logging

from experiments import commands
from metapers.data import choice_files
from metapers.data.choice_files import Columns

FILE = flags.DEFINE_string('file', None, 'A .csv, .jsonl or .parquet file with a row per choice.')
OUT = flags.DEFINE_string('out', None, 'The folder to make.')
USER = flags.DEFINE_string('user', '', 'Column of who was asked; by default user, user_id, ...')
PROMPT = flags.DEFINE_string('prompt', '', 'Column of the prompt; `none` if there is none.')
A = flags.DEFINE_string('a', '', 'Column of the first text; by default response_a, ...')
B = flags.DEFINE_string('b', '', 'Column of the second text; by default response_b, ...')
CHOICE = flags.DEFINE_string('choice', '', 'Column of which is preferred; by default choice, ...')
CHOSEN = flags.DEFINE_string(
  'chosen', '', 'Column of the preferred text, in place of a, b, choice.'
)
REJECTED = flags.DEFINE_string('rejected', '', 'Column of the other text, beside --chosen.')
ORDER = flags.DEFINE_string(
  'order',
  '',
  'Column of numbers or ISO dates that orders the choices; `none` for that of the rows.',
)
VALUES = flags.DEFINE_list(
  'values',
  [],
  'The choices that mean the first and the second text, if unusual: left_one,right_one.',
)
TIES = flags.DEFINE_list('ties', [], 'Further choices that mean neither.')
LICENCE = flags.DEFINE_string('licence', '', 'Of the data, a line.')


def main(argv: list[str]) -> None:
  """Runs the command."""
  commands.no_arguments(argv)
  file, out = commands.required(FILE), pathlib.Path(commands.required(OUT))
  if out.exists():
    raise ValueError(f'{out} exists; give another --out, or remove it')
  given = Columns(
    user=USER.value, prompt=PROMPT.value, a=A.value, b=B.value, choice=CHOICE.value,
    chosen=CHOSEN.value, rejected=REJECTED.value, order=ORDER.value,
  )  # fmt: skip
  made = choice_files.read_choices(
    file, given, values=VALUES.value, ties=TIES.value, licence=LICENCE.value
  )
  if made.unread:
    logging.warning('columns of %s that are not read: %s', file, ', '.join(made.unread))
  choice_files.write_choices(out, made)
  commands.say(choice_files.describe(made))
  commands.say(str(out))


if __name__ == '__main__':
  commands.run(main)
