"""Asks models for responses to prompts, through any OpenAI-compatible endpoint.

    OPENAI_API_KEY=... python -m experiments.respond --prompts=FILE --models=a,b \
        --base_url=https://HOST/v1 --out=RESPONSES.parquet

Each answer is kept in a journal beside --out as soon as it is there: the same command, given again
after an interruption, asks only for what is missing.
"""

import io
import json
import pathlib

import tqdm
from absl import flags

from experiments import commands
from metapers.core import files
from metapers.data import curation
from metapers.io import chat, responses

PROMPTS = flags.DEFINE_string('prompts', None, 'A .parquet or .jsonl file with a column prompt.')
MODELS = flags.DEFINE_list('models', None, 'Names of models, as the endpoint has them.')
BASE_URL = flags.DEFINE_string('base_url', None, 'Such as http://localhost:8000/v1.')
OUT = flags.DEFINE_string('out', None, 'The .parquet file to write.')
MAX_TOKENS = flags.DEFINE_integer('max_tokens', 512, 'Longest answer.', lower_bound=1)
TEMPERATURE = flags.DEFINE_float('temperature', 1.0, 'Of sampling.', lower_bound=0.0)
CONCURRENCY = flags.DEFINE_integer('concurrency', 8, 'Requests under way at once.', lower_bound=1)
REQUESTS_PER_MINUTE = flags.DEFINE_float('requests_per_minute', None, 'At most; no limit if unset.')


def main(argv: list[str]) -> None:
  """Runs the command."""
  commands.no_arguments(argv)
  out, models = pathlib.Path(commands.required(OUT)), commands.required(MODELS)
  if out.suffix != '.parquet':
    raise ValueError(f'--out must be a .parquet file, got {out}')
  if not models or len(set(models)) < len(models):
    raise ValueError(f'--models takes different names, such as a,b; got {",".join(models)!r}')
  prompts = curation.read_prompts(commands.required(PROMPTS))
  client = chat.Client(commands.required(BASE_URL), requests_per_minute=REQUESTS_PER_MINUTE.value)
  parameters = {'max_tokens': MAX_TOKENS.value, 'temperature': TEMPERATURE.value}
  shared = {'base_url': client.base_url, **parameters, 'prompts': responses.digest(prompts)}
  journal = responses.Journal(out.with_name(out.name + '.journal.jsonl'), shared)
  try:
    failures = collect(client, prompts['prompt'].tolist(), models, journal, parameters)
  finally:
    journal.close()
  table = responses.wide_table(prompts, models, journal.answers, failures)
  table['parameters'] = json.dumps({'base_url': client.base_url, **parameters})
  buffer = io.BytesIO()
  table.to_parquet(buffer, index=False)
  files.write_atomically(out, buffer.getvalue())
  for line in responses.summary(models, journal.answers, failures, len(prompts)):
    commands.say(line)
  commands.say(f'{len(prompts)} prompts x {len(models)} responses: {out}')


def collect(
  client: chat.Client,
  prompts: list[str],
  models: list[str],
  journal: responses.Journal,
  parameters: dict[str, float],
) -> dict[responses.Wanted, str]:
  """Asks for every answer that the journal lacks, with a bar, and returns the failures."""
  with tqdm.tqdm(total=len(prompts) * len(models), unit='answer') as bar:
    bar.update(sum(wanted.model in models for wanted in journal.answers))
    return responses.collect(
      client, prompts, models, journal,
      parameters=parameters,
      concurrency=CONCURRENCY.value,
      ended=lambda count: bar.update(count - bar.n),
    )  # fmt: skip


if __name__ == '__main__':
  commands.run(main)
