"""Asks models for responses to prompts, through any OpenAI-compatible endpoint.

    OPENAI_API_KEY=... python -m experiments.respond --prompts=FILE --models=a,b \
        --base_url=https://HOST/v1 --out=RESPONSES.parquet

Each answer is kept in a journal beside --out as soon as it is there: the same command, given again
after an interruption, asks only for what is missing.
"""

import collections
import hashlib
import io
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd
import tqdm
from absl import flags

from experiments import commands
from metapers.core import files
from metapers.data import curation, texts
from metapers.io import chat

PROMPTS = flags.DEFINE_string('prompts', None, 'A .parquet or .jsonl file with a column prompt.')
MODELS = flags.DEFINE_list('models', None, 'Names of models, as the endpoint has them.')
BASE_URL = flags.DEFINE_string('base_url', None, 'Such as http://localhost:8000/v1.')
OUT = flags.DEFINE_string('out', None, 'The .parquet file to write.')
MAX_TOKENS = flags.DEFINE_integer('max_tokens', 512, 'Longest answer.', lower_bound=1)
TEMPERATURE = flags.DEFINE_float('temperature', 1.0, 'Of sampling.', lower_bound=0.0)
CONCURRENCY = flags.DEFINE_integer('concurrency', 8, 'Requests under way at once.', lower_bound=1)
REQUESTS_PER_MINUTE = flags.DEFINE_float('requests_per_minute', None, 'At most; no limit if unset.')

KEPT = ('prompt', 'prompt_id', 'subset', 'split')  # columns of --prompts that --out has, too
# A model that failed so often and never answered will not: better a message than a long wait.
FAILURES_BEFORE_ANY_ANSWER = 20


class Asked(NamedTuple):
  """One answer wanted: a row of the prompts, and a model."""

  row: int
  model: str


class Journal:
  """Answers as they came, one a line, under a first line that says how they were asked for.

  Args:
    path: of the file; made if missing. A last line that a kill cut short is dropped.
    asking: what all answers share.

  Raises:
    ValueError: if its answers were asked for otherwise, or a line of it cannot be read.
  """

  def __init__(self, path: pathlib.Path, asking: Mapping[str, Any]):
    lines = _whole_lines(path)
    try:
      header, *records = map(json.loads, lines or [json.dumps(asking)])
      names = sorted({*header, *asking})
      changed = [x for x in names if header.get(x) != asking.get(x)]
      told = '; '.join(f'{x}: {header.get(x)} there, {asking.get(x)} now' for x in changed)
      self.answers = {Asked(x['row'], x['model']): chat.Completion(**x['answer']) for x in records}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
      raise ValueError(
        f'{path} is no journal of answers ({error!r}); remove its wrong lines, or all of it to '
        'begin anew'
      ) from error
    if changed:
      raise ValueError(
        f'{path} holds answers that were asked for otherwise ({told}); ask the same way, or give '
        'another --out'
      )
    self._file = path.open('a', encoding='utf-8')
    if not lines:
      self._write(asking)

  def add(self, asked: Asked, answer: chat.Completion) -> None:
    """Keeps an answer."""
    self._write({**asked._asdict(), 'answer': answer._asdict()})
    self.answers[asked] = answer

  def close(self) -> None:
    """Closes the file."""
    self._file.close()

  def _write(self, record: Mapping[str, Any]) -> None:
    self._file.write(json.dumps(record) + '\n')
    self._file.flush()


def main(argv: list[str]) -> None:
  """Runs the command."""
  commands.no_arguments(argv)
  out, models = pathlib.Path(commands.required(OUT)), commands.required(MODELS)
  if out.suffix != '.parquet':
    raise ValueError(f'--out must be a .parquet file, got {out}')
  if not models or len(set(models)) < len(models):
    raise ValueError(f'--models takes different names, such as a,b; got {",".join(models)!r}')
  prompts = read_prompts(pathlib.Path(commands.required(PROMPTS)))
  client = chat.Client(commands.required(BASE_URL), requests_per_minute=REQUESTS_PER_MINUTE.value)
  parameters = {'max_tokens': MAX_TOKENS.value, 'temperature': TEMPERATURE.value}
  asking = {'base_url': client.base_url, **parameters, 'prompts': digest(prompts)}
  out.parent.mkdir(parents=True, exist_ok=True)
  journal = Journal(out.with_name(out.name + '.journal.jsonl'), asking)
  try:
    failures = ask(client, prompts['prompt'].tolist(), models, parameters, journal)
  finally:
    journal.close()
  table = wide_table(prompts, models, journal.answers, failures)
  table['parameters'] = json.dumps({'base_url': client.base_url, **parameters})
  buffer = io.BytesIO()
  table.to_parquet(buffer, index=False)
  files.write_atomically(out, buffer.getvalue())
  tell(models, journal.answers, failures, len(prompts))
  commands.say(f'{len(prompts)} prompts x {len(models)} responses: {out}')


def read_prompts(path: pathlib.Path) -> pd.DataFrame:
  """Reads the prompts, and gives those without `prompt_id` and `subset` their row and ''.

  Raises:
    ValueError: without a column `prompt`, with an empty prompt, or an id that stands twice.
  """
  frame = curation.numbered(texts.read_frame(path))
  if 'subset' not in frame.columns:
    frame = frame.assign(subset='')
  empty = [n for n, x in enumerate(frame['prompt']) if not isinstance(x, str) or not x.strip()]
  if empty or not len(frame):
    raise ValueError(
      f'{path}: {len(empty)} of {len(frame)} rows have no prompt (rows {empty[:5]}); '
      'metapers.data.curation.curate leaves them out'
    )
  return frame


def digest(prompts: pd.DataFrame) -> str:
  """Returns the sha256 of ids and prompts: rows of a journal mean those of the same file."""
  content = json.dumps([[str(x) for x in prompts['prompt_id']], prompts['prompt'].tolist()])
  return hashlib.sha256(content.encode()).hexdigest()


def ask(
  client: chat.Client,
  prompts: Sequence[str],
  models: Sequence[str],
  parameters: Mapping[str, Any],
  journal: Journal,
) -> dict[Asked, str]:
  """Asks for every answer that the journal lacks, and returns why some are still missing.

  Raises:
    OSError: for a model that fails again and again and has never answered.
  """
  wanted = [Asked(row, model) for row in range(len(prompts)) for model in models]
  missing = [asked for asked in wanted if asked not in journal.answers]
  requests = (
    chat.Request(model, [{'role': 'user', 'content': prompts[row]}], parameters)
    for row, model in missing
  )
  answered, failures = {asked.model for asked in journal.answers}, {}
  bar = tqdm.tqdm(total=len(wanted), initial=len(wanted) - len(missing), unit='answer')
  with bar:
    for number, result in chat.complete_all(client, requests, concurrency=CONCURRENCY.value):
      asked = missing[number]
      if isinstance(result, chat.Completion):
        journal.add(asked, result)
        answered.add(asked.model)
      else:
        failures[asked] = str(result)
        give_up(asked.model, answered, failures)
      bar.update()
  return failures


def give_up(model: str, answered: Iterable[str], failures: Mapping[Asked, str]) -> None:
  """Raises OSError for a model that fails and has never answered."""
  told = [text for asked, text in failures.items() if asked.model == model]
  if model not in answered and len(told) >= FAILURES_BEFORE_ANY_ANSWER:
    raise OSError(f'{model} failed {len(told)} times and answered never; the last time: {told[-1]}')


def wide_table(
  prompts: pd.DataFrame,
  models: Sequence[str],
  answers: Mapping[Asked, chat.Completion],
  failures: Mapping[Asked, str],
) -> pd.DataFrame:
  """Returns a row per prompt; the response of a failed request is '', its finish reason why."""
  columns = {name: prompts[name] for name in KEPT if name in prompts.columns}
  for number, model in enumerate(models, start=1):
    nothing = [
      chat.Completion('', f'failed: {failures.get(Asked(row, model))}', '', {})
      for row in range(len(prompts))
    ]
    found = [answers.get(Asked(row, model), other) for row, other in enumerate(nothing)]
    columns[f'response_{number}'] = [answer.text for answer in found]
    columns[f'response_{number}_model'] = [model] * len(prompts)
    columns[f'response_{number}_served_model'] = [answer.model for answer in found]
    columns[f'response_{number}_finish_reason'] = [answer.finish_reason for answer in found]
  return pd.DataFrame(columns)


def tell(
  models: Sequence[str],
  answers: Mapping[Asked, chat.Completion],
  failures: Mapping[Asked, str],
  num_prompts: int,
) -> None:
  """Prints what came of each model's requests."""
  for model in models:
    own = [answer for asked, answer in answers.items() if asked.model == model]
    reasons = collections.Counter(answer.finish_reason or 'unknown' for answer in own)
    empty = sum(not answer.text.strip() for answer in own)
    failed = [text for asked, text in failures.items() if asked.model == model]
    ends = ', '.join(f'{count} {reason}' for reason, count in sorted(reasons.items()))
    commands.say(
      f'{model}: {len(own)} of {num_prompts} answers ({ends}); {empty} empty, {len(failed)} failed'
    )
    if failed:
      commands.say(f'  the same command asks for them again; the last failure: {failed[-1]}')


def _whole_lines(path: pathlib.Path) -> list[bytes]:
  """Returns the lines of a file, and drops from it what follows the last line break."""
  if not path.exists():
    return []
  content = path.read_bytes()
  whole = content[: content.rfind(b'\n') + 1]
  if whole != content:
    with path.open('r+b') as file:
      file.truncate(len(whole))
  return whole.splitlines()


if __name__ == '__main__':
  commands.run(main)
