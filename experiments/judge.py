"""Lets a model judge pairs of answers, each in both orders, through any OpenAI-compatible endpoint.

    OPENAI_API_KEY=... python -m experiments.judge --pairs=PAIRS.jsonl --model=NAME \
        --base_url=https://HOST/v1 --out=VERDICTS.csv

A line of PAIRS.jsonl holds user, prompt_id, prompt, answer, rival and, if wanted, about: what is
said of the user. Wins, ties (the orders disagree, or one says so) and losses come with intervals
for new users and prompts. Replies are kept beside --out: the same command, given again after an
interruption, asks only for what is missing.
"""

import pathlib

import tqdm
from absl import flags

from experiments import commands
from metapers.bench.language import judging
from metapers.core import files
from metapers.io import chat

PAIRS = flags.DEFINE_string('pairs', None, 'A .jsonl file of pairs of answers.')
MODEL = flags.DEFINE_string('model', None, 'The judge, as the endpoint names it.')
BASE_URL = flags.DEFINE_string('base_url', None, 'Such as http://localhost:8000/v1.')
OUT = flags.DEFINE_string('out', None, 'The .csv file to write.')
MAX_TOKENS = flags.DEFINE_integer('max_tokens', 16, 'Longest verdict.', lower_bound=1)
CONCURRENCY = flags.DEFINE_integer('concurrency', 8, 'Requests under way at once.', lower_bound=1)
REQUESTS_PER_MINUTE = flags.DEFINE_float('requests_per_minute', None, 'At most; no limit if unset.')


def main(argv: list[str]) -> None:
  """Runs the command."""
  commands.no_arguments(argv)
  out, judge = pathlib.Path(commands.required(OUT)), commands.required(MODEL)
  if out.suffix != '.csv':
    raise ValueError(f'--out must be a .csv file, got {out}')
  duels = judging.read_duels(commands.required(PAIRS))
  client = chat.Client(commands.required(BASE_URL), requests_per_minute=REQUESTS_PER_MINUTE.value)
  with tqdm.tqdm(total=2 * len(duels), unit='verdict') as bar:
    asked = judging.ask(
      client, judge, duels, out.with_name(out.name + '.journal.jsonl'),
      parameters={'max_tokens': MAX_TOKENS.value, 'temperature': 0.0},
      concurrency=CONCURRENCY.value,
      ended=lambda count: bar.update(count - bar.n),
    )  # fmt: skip
  judged = int(asked.verdicts.is_judged.sum())
  commands.say(
    f'{judged} of {len(duels)} pairs have a verdict in both orders; {len(asked.failures)} requests '
    f'failed, {asked.num_unclear} replies are no verdict'
  )
  for reason in list(asked.failures.values())[-1:]:
    commands.say(f'  the same command asks for them again; the last failure: {reason}')
  frame = judging.shares(duels, asked.verdicts)
  files.write_atomically(out, frame.to_csv(index=False))
  commands.say('\n'.join(judging.in_words(frame)))
  tokens = ', '.join(f'{name} {count}' for name, count in asked.usage.items())
  commands.say(f'{tokens or "the endpoint counts no tokens"}: {out}')


if __name__ == '__main__':
  commands.run(main)
