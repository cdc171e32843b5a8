"""Answers of a model that is shown examples, scored as the replies of the store were.

    python -m experiments.icl_answers --store=STORE --model=FOLDER --workdir=DIR
    python -m experiments.extract --config=CONFIG --config.source.path=DIR/answers.parquet \
        --config.source.kind=texts --out=DIR/scored
    python -m experiments.icl_answers --store=STORE --model=FOLDER --workdir=DIR --scored=DIR/scored

The first writes answers, by the model or by --served_model of an endpoint, and keeps each as it
comes. The second scores them by the config that made STORE: the same models, dtype and batch. The
third writes DIR/rewards.csv: mean reward of each row of the study, wins, ties and losses against
the best reply of the store and against --rival (of any length), what differences so many users can
show, tokens and cost. Users, rows and their options are those of `experiments.icl`.
"""

import io
import pathlib

import pandas as pd
import tqdm
from absl import flags

from experiments import commands, icl
from metapers.analysis import slates
from metapers.bench.language import in_context
from metapers.bench.language import in_context_answers as answers
from metapers.bench.language.in_context import Texts
from metapers.bench.language.in_context_answers import Messages, Prices
from metapers.core import files
from metapers.data import feature_store, manifest
from metapers.io import chat, responses
from metapers.io.responses import Wanted
from metapers.llm import decoder, generate, hf_config, load

SCORED = flags.DEFINE_string('scored', '', 'A store of the scored answers.')
RIVAL = flags.DEFINE_string('rival', '', 'A model that wrote replies of the store, to win against.')
SERVED = flags.DEFINE_string('served_model', '', 'Of the endpoint, in the place of --model.')
BASE_URL = flags.DEFINE_string('base_url', None, 'Of the endpoint, as http://localhost:8000/v1.')
CONCURRENCY = flags.DEFINE_integer('concurrency', 8, 'Requests under way at once.', lower_bound=1)
MAX_TOKENS = flags.DEFINE_integer('max_tokens', 256, 'Longest answer.', lower_bound=1)
TEMPERATURE = flags.DEFINE_float('temperature', 0.0, '0 takes the likeliest tokens.')
BATCH_SIZE = flags.DEFINE_integer('batch_size', 8, 'Answers at once.', lower_bound=1)
PRICE_PROMPT = flags.DEFINE_float('price_prompt', 0.0, 'Of a million tokens that are read.')
PRICE_ANSWER = flags.DEFINE_float('price_answer', 0.0, 'Of a million tokens that are written.')


def main(argv: list[str]) -> None:
  """Runs the command."""
  commands.no_arguments(argv)
  folder, workdir = (pathlib.Path(commands.required(each)) for each in (icl.MODEL, icl.WORKDIR))
  generate.check_sampling(generate.Sampling(temperature=TEMPERATURE.value))
  made = icl.prepared(folder)
  asked = answers.messages(
    made.study, made.rows, made.texts, made.sizes,
    lambda text: len(made.chat.prompt(text)), most=icl.MAX_PROMPT.value,
  )  # fmt: skip
  with commands.holding(workdir):
    found = written(made, asked, folder, workdir)
    out = workdir / 'answers.parquet'
    frame = answers.table(made.study, made.rows, made.texts, asked, found)
    if SCORED.value:
      score(made, asked, found, frame, workdir)
      return
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    files.write_atomically(out, buffer.getvalue())
  empty = sum(not answer.text.strip() for answer in found.values())
  cut = sum(map(answers.is_cut, found.values()))
  commands.say(
    f'{len(found)} of {len(asked.texts)} answers, {empty} of them empty and {cut} cut at '
    f'{MAX_TOKENS.value} tokens, {int(asked.num_dropped.sum())} examples left out: {out}'
  )


def written(
  made: icl.Prepared, asked: Messages, folder: pathlib.Path, workdir: pathlib.Path
) -> dict[int, chat.Completion]:
  """Returns the answers, those that are missing by the model or the endpoint."""
  name, client = SERVED.value or folder.name, None
  shared = {
    **made.identity, 'rows': [str(row) for row in made.rows], 'max_tokens': MAX_TOKENS.value,
    'temperature': TEMPERATURE.value, 'base_url': BASE_URL.value or '',
  }  # fmt: skip
  if SERVED.value:
    client = chat.Client(commands.required(BASE_URL))
  journal = responses.Journal(workdir / 'generated.jsonl', shared)
  try:
    with tqdm.tqdm(total=len(asked.texts), unit='answer') as bar:
      if client is not None:
        failures = responses.collect(
          client, asked.texts, [name], journal,
          parameters={'max_tokens': MAX_TOKENS.value, 'temperature': TEMPERATURE.value},
          concurrency=CONCURRENCY.value, ended=lambda count: bar.update(count - bar.n),
        )  # fmt: skip
        for reason in list(failures.values())[-1:]:
          commands.say(f'{len(failures)} answers failed; the last: {reason}')
      else:
        bar.update(len(journal.answers))
        by_model(made, asked, folder, journal, name, bar.update)
  finally:
    journal.close()
  return {wanted.row: answer for wanted, answer in journal.answers.items() if wanted.model == name}


def by_model(
  made: icl.Prepared,
  asked: Messages,
  folder: pathlib.Path,
  journal: responses.Journal,
  name: str,
  ended,
) -> None:
  """Writes the answers that the journal lacks by the own decoder."""
  if all(Wanted(row, name) in journal.answers for row in range(len(asked.texts))):
    return
  answers.write(
    decoder.decoder(hf_config.read(folder)), load.params(folder), made.chat, asked.texts, journal,
    name=name, num_tokens=MAX_TOKENS.value, batch_size=BATCH_SIZE.value, seed=icl.SEED.value,
    sampling=generate.Sampling(temperature=TEMPERATURE.value), ended=ended,
  )  # fmt: skip


def score(
  made: icl.Prepared,
  asked: Messages,
  found: dict[int, chat.Completion],
  frame: pd.DataFrame,
  workdir: pathlib.Path,
) -> None:
  """Writes what scored answers come to.

  Args:
    made: the study.
    asked: its messages.
    found: the answers.
    frame: the table of them.
    workdir: where results go.

  Raises:
    ValueError: for scores of other answers, or by other models than the store's.
  """
  stores = {'scored': SCORED.value, 'store': icl.STORE.value}
  tables = {name: feature_store.open_store(path) for name, path in stores.items()}
  made_by = {
    name: manifest.read_store_manifest(pathlib.Path(path))[0]['made_by']
    for name, path in stores.items()
  }
  answers.check_scored(tables['scored'], tables['store'], made_by)
  prompts = tables['scored'].prompt_texts
  if prompts is None:
    raise ValueError(f'{SCORED.value} keeps no texts of its prompts; extract it anew with them')
  answers.check_answers(Texts(prompts, feature_store.response_texts(SCORED.value)), frame)
  rewards = answers.rewards(made.study, tables['scored'], tables['store'], len(made.rows))
  whole = slates.slates_of(tables['store'], split='test')
  against = in_context.references(made.study, whole, RIVAL.value)
  costs = answers.costs_of(made.rows, asked, found, Prices(PRICE_PROMPT.value, PRICE_ANSWER.value))
  results = answers.measured(made.study, made.rows, rewards, against, costs)
  out = workdir / 'rewards.csv'
  files.write_atomically(out, results.to_csv(index=False))
  for line in answers.in_words(results, list(against)):
    commands.say(line)
  commands.say(f'{icl.described(made.study)}: {out}')


if __name__ == '__main__':
  commands.run(main)
