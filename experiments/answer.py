"""Answers a question by a language model that is shown what its user liked and disliked.

    python -m experiments.answer --model=FOLDER --prompt='How do I sleep better?' --examples=FILE

FOLDER is a Hugging Face model with a chat template (`experiments.smollm2` makes one), FILE a .jsonl
with `prompt`, `winning` and `losing` in each line. Without examples the model answers anybody.
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import transformers
from absl import flags

from experiments import commands
from metapers.core import files
from metapers.llm import (
  chat_tokens,
  decoder,
  generate,
  hf_config,
  in_context,
  load,
  policy,
  prompting,
)
from metapers.llm.in_context import Example

MODEL = flags.DEFINE_string('model', None, 'Folder of a Hugging Face model.')
PROMPT = flags.DEFINE_string('prompt', None, 'The question.')
EXAMPLES = flags.DEFINE_string('examples', '', 'A .jsonl file of earlier questions and replies.')
ARM = flags.DEFINE_enum('arm', 'both', list(in_context.ARMS), 'What is shown of an example.')
MAX_TOKENS = flags.DEFINE_integer('max_tokens', 128, 'Of the answer.', lower_bound=1)
MAX_PROMPT = flags.DEFINE_integer(
  'max_prompt', 1536, 'Tokens, at most what the model has room for; first examples are left out.'
)
TEMPERATURE = flags.DEFINE_float('temperature', 0.0, '0 takes the likeliest tokens.')
SEED = flags.DEFINE_integer('seed', 0, 'Of sampling.')
FIELDS = Example._fields


def main(argv: list[str]) -> None:
  """Runs the command."""
  commands.no_arguments(argv)
  folder, question = pathlib.Path(commands.required(MODEL)), commands.required(PROMPT)
  sampling = generate.Sampling(temperature=TEMPERATURE.value)
  generate.check_sampling(sampling)
  examples = read_examples(EXAMPLES.value) if EXAMPLES.value else []
  model = decoder.decoder(hf_config.read(folder))
  tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
  chat = chat_tokens.of(tokenizer, model.config.vocab_size)
  free = (model.config.max_positions - MAX_TOKENS.value) // policy.STEP * policy.STEP
  most = min(MAX_PROMPT.value, free)
  shown = in_context.fitted(
    ARM.value, examples, question, lambda text: len(chat.prompt(text)), most=most
  )
  if shown.num_dropped:
    commands.say(f'{shown.num_dropped} of {len(examples)} examples do not fit and are left out')
  tokens = chat.prompt(shown.text)
  length = policy.rounded(len(tokens))
  padded, mask = prompting.padded([tokens], side='left', length=length)
  params = load.params(folder)
  inputs = prompting.Inputs(model.embed(params, jnp.asarray(padded)), jnp.asarray(mask))
  generator = generate.generator(
    model, num_tokens=MAX_TOKENS.value, end_tokens=chat.end, sampling=sampling
  )
  found = generator(params, inputs, jax.random.key(SEED.value))
  answer = np.asarray(found.tokens[0])[np.asarray(found.mask[0])]
  commands.say(tokenizer.decode(answer, skip_special_tokens=True).strip())


def read_examples(path: str) -> list[Example]:
  """Returns the examples of a file, in its order.

  Raises:
    ValueError: for another ending, or a line without a text of each field, with its number.
  """
  if not path.endswith('.jsonl'):
    raise ValueError(f'--examples must be a .jsonl file, got {path}')
  found = []
  for source, record in files.json_lines(path):
    if not all(isinstance(record.get(field), str) and record[field] for field in FIELDS):
      raise ValueError(f'{source}: an example has texts {", ".join(FIELDS)}; got {sorted(record)}')
    found.append(Example(*(record[field] for field in FIELDS)))
  return found


if __name__ == '__main__':
  commands.run(main)
