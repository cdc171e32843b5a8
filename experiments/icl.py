"""In-context learning on simulated users: does a model that reads examples prefer what they prefer?

    python -m experiments.icl --store=STORE --model=FOLDER --workdir=DIR

STORE holds texts and features; FOLDER is a Hugging Face model with a chat template. A row is what
the model is shown: `zero_shot`, or SOURCE:ARM:SHOTS. Writes results.csv; the same command, given
again after an interruption, asks only for what is missing.
"""

import pathlib
from typing import Any, NamedTuple

import numpy as np
import tqdm
import transformers
from absl import flags

from experiments import commands
from metapers.analysis import slates
from metapers.analysis.slates import Slates
from metapers.bench.language import in_context as studies
from metapers.bench.language import in_context_results, in_context_runs
from metapers.bench.language.in_context import Row, Sizes, Study
from metapers.core import files
from metapers.data import feature_store
from metapers.llm import chat_tokens, decoder, hf_config, likelihood, load

ROWS = [
  'zero_shot', 'own:winning:3', 'own:both:3', 'retrieved:winning:3', 'retrieved:both:3',
  'lookup winning - losing:winning:3',
]  # fmt: skip

STORE = flags.DEFINE_string('store', None, 'Folder of a feature store with texts.')
MODEL = flags.DEFINE_string('model', None, 'Folder of a Hugging Face model.')
WORKDIR = flags.DEFINE_string('workdir', None, 'Where answers and results go.')
SHOWN = flags.DEFINE_list('rows', ROWS, 'What the model is shown.')
CONCENTRATION = flags.DEFINE_float('concentration', 0.05, 'α of simulated users.')
NUM_USERS = flags.DEFINE_integer('num_users', 200, 'Simulated users.', lower_bound=2)
NUM_QUERIES = flags.DEFINE_integer('num_queries', 2, 'Pairs of replies of a user.', lower_bound=1)
NUM_HISTORY = flags.DEFINE_integer('num_history', 5, 'Interactions of a user.', lower_bound=1)
NUM_KNOWN = flags.DEFINE_integer('num_known', 1000, 'Known users to look up.', lower_bound=1)
NUM_NEIGHBORS = flags.DEFINE_integer('num_neighbors', 5, 'Known users pooled.', lower_bound=1)
MAX_PROMPT = flags.DEFINE_integer('max_prompt', 1536, 'Tokens; first examples are left out.')
MAX_RESPONSE = flags.DEFINE_integer('max_response', 256, 'Tokens; longer replies are not used.')
SEED = flags.DEFINE_integer('seed', 0, 'Of users and pairs.')


class Prepared(NamedTuple):
  """Users, texts and the model's template. identity: JSON values that make the study."""

  study: Study
  rows: list[Row]
  sizes: Sizes
  texts: studies.Texts
  chat: chat_tokens.ChatTokens
  identity: dict[str, Any]


def main(argv: list[str]) -> None:
  """Runs the command."""
  commands.no_arguments(argv)
  workdir, folder = (pathlib.Path(commands.required(flag)) for flag in (WORKDIR, MODEL))
  study, rows, sizes, texts, chat, identity = prepared(folder)
  model = decoder.decoder(hf_config.read(folder))
  with commands.holding(workdir):
    journal = in_context_runs.Journal(workdir / 'answers.jsonl', identity)
    try:
      found = list(
        in_context_runs.questions(study, rows, texts, chat, sizes, most=MAX_PROMPT.value)
      )
      with tqdm.tqdm(total=len(found), unit='question') as bar:
        bar.update(sum(one.cell.key in journal.answers for one in found))
        in_context_runs.ask(
          found, likelihood.scorer(model), load.params(folder), journal, bar.update
        )
    finally:
      journal.close()
    frame = in_context_results.measured(study, rows, journal.answers)
    out = workdir / 'results.csv'
    files.write_atomically(out, frame.to_csv(index=False))
  for line in in_context_results.in_words(frame):
    commands.say(line)
  commands.say(f'{described(study)}: {out}')


def prepared(folder: pathlib.Path) -> Prepared:
  """Returns the study that the flags ask for, with the texts of its store.

  Args:
    folder: of the model.

  Raises:
    ValueError: for a row that there is not or that shows more than there is, a store without texts,
      or sizes that do not fit.
  """
  rows = [studies.parse_row(text) for text in dict.fromkeys(SHOWN.value)]
  sizes = Sizes(
    NUM_USERS.value, NUM_QUERIES.value, NUM_HISTORY.value, NUM_KNOWN.value, NUM_NEIGHBORS.value
  )
  studies.check_shots(rows, sizes)
  store = commands.required(STORE)
  table, responses = feature_store.open_store(store), feature_store.response_texts(store)
  if table.prompt_texts is None:
    raise ValueError(f'{store} keeps no texts of its prompts; extract it anew with them')
  texts = studies.Texts(table.prompt_texts, responses)
  vocab_size = hf_config.read(folder).vocab_size  # first, for its errors say what is missing
  chat = chat_tokens.of(transformers.AutoTokenizer.from_pretrained(folder), vocab_size)
  train, test = (
    fitting(slates.slates_of(table, split=split), texts, chat) for split in ('train', 'test')
  )
  studies.check_shots(rows, sizes, len(train.rows))
  study = studies.draw(train, test, CONCENTRATION.value, sizes, seed=SEED.value)
  identity: dict[str, Any] = {
    'store': table.manifest_hash, 'model': load.fingerprint(folder),
    'concentration': CONCENTRATION.value, **sizes._asdict(), 'max_prompt': MAX_PROMPT.value,
    'max_response': MAX_RESPONSE.value, 'seed': SEED.value,
  }  # fmt: skip
  return Prepared(study, rows, sizes, texts, chat, identity)


def described(study: Study) -> str:
  """Returns what a study is of, in a line."""
  prompts = study.queries.prompts
  return (
    f'{len(prompts)} users, {prompts.size} pairs of replies to {np.unique(prompts).size} test '
    f'prompts, α = {CONCENTRATION.value}'
  )


def fitting(given: Slates, texts: studies.Texts, chat: chat_tokens.ChatTokens) -> Slates:
  """Returns slates of prompts and replies that are short enough, and says how many are left."""
  with tqdm.tqdm(total=given.mask.size, unit='text', desc='tokens') as bar:
    kept = studies.that_fit(
      given,
      texts,
      chat,
      max_prompt=MAX_PROMPT.value,
      max_response=MAX_RESPONSE.value,
      ended=bar.update,
    )
  commands.say(
    f'{int(kept.mask.sum())} of {int(given.mask.sum())} replies, to {len(kept.rows)} of '
    f'{len(given.rows)} prompts, have at most {MAX_RESPONSE.value} tokens'
  )
  return kept


if __name__ == '__main__':
  commands.run(main)
