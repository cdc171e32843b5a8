"""Answers a question of one person by a language model.

    python -m experiments.answer --model=FOLDER --prompt='How do I sleep better?' --examples=FILE
    python -m experiments.answer --model=FOLDER --prompt=... --policy=POLICY --user=NAME

FOLDER is a Hugging Face model with a chat template (`experiments.smollm2` makes one), FILE a .jsonl
with `prompt`, `winning` and `losing` in each line: earlier questions, and what the person liked and
disliked. Without examples the model answers anybody.

POLICY is what `experiments.p_dpo` tuned of that model, in WORKDIR/policies. It answers one of the
users that it knows; a new one by the comparisons in FILE, of which its soft tokens are fitted; or
anybody.
"""

import pathlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import transformers
from absl import flags

from experiments import commands
from metapers.core import files, task
from metapers.core.task import Choices
from metapers.core.types import Params
from metapers.llm import (
  chat_tokens,
  decoder,
  generate,
  hf_config,
  in_context,
  likelihood,
  load,
  reference,
  tokenized,
  trained,
)
from metapers.llm.decoder import Decoder
from metapers.llm.in_context import Example
from metapers.llm.published import Comparison, Turn
from metapers.llm.tokenized import Encoder, Lengths
from metapers.llm.trained import About, Trained
from metapers.llm.user_model import UserState

MODEL = flags.DEFINE_string('model', None, 'Folder of a Hugging Face model.')
PROMPT = flags.DEFINE_string('prompt', None, 'The question.')
EXAMPLES = flags.DEFINE_string('examples', '', 'A .jsonl file of earlier questions and replies.')
ARM = flags.DEFINE_enum('arm', 'both', list(in_context.ARMS), 'What is shown of an example.')
POLICY = flags.DEFINE_string('policy', '', 'Folder of a policy that was tuned of the model.')
USER = flags.DEFINE_string('user', '', 'Whom the policy knows.')
SAYS = flags.DEFINE_string('says', '', 'What the user says of themselves, where the policy asks.')
MAX_TOKENS = flags.DEFINE_integer('max_tokens', 128, 'Of the answer.', lower_bound=1)
MAX_PROMPT = flags.DEFINE_integer(
  'max_prompt', 1536, 'Tokens, at most what the model has room for; first examples are left out.'
)
TEMPERATURE = flags.DEFINE_float('temperature', 0.0, '0 takes the likeliest tokens.')
SEED = flags.DEFINE_integer('seed', 0, 'Of sampling.')
FIELDS = Example._fields
MOST_NAMED = 20  # users in one message


def main(argv: list[str]) -> None:
  """Runs the command."""
  commands.no_arguments(argv)
  folder, question = pathlib.Path(commands.required(MODEL)), commands.required(PROMPT)
  sampling = generate.Sampling(temperature=TEMPERATURE.value)
  generate.check_sampling(sampling)
  examples = read_examples(EXAMPLES.value) if EXAMPLES.value else []
  about = trained.read_about(POLICY.value) if POLICY.value else None
  check_person(about, examples)
  model = decoder.decoder(hf_config.read(folder))
  tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
  chat_tokens.check_vocabulary(tokenizer, model.config.vocab_size)
  encoder = tokenized.encoder(tokenizer, is_chat=about is None or about.is_chat)
  if not about:
    question = with_examples(model, encoder, examples, question)
  prompt = prompt_of(encoder, question)
  base = load.params(folder)
  if about:
    made = trained.load(POLICY.value, model, base, model_files=load.fingerprint(folder))
    state = state_of(about, made, model, base, encoder, examples)
  else:
    made = trained.untrained(model, base)
    state = made.policy.state_of(made.params, jnp.asarray(0, jnp.int32), task.no_context())
  ends = chat_tokens.ends(tokenizer, encoder.response('')[-1:])
  generator = generate.generator(
    model, num_tokens=MAX_TOKENS.value, end_tokens=ends, sampling=sampling
  )
  room = model.config.max_positions - MAX_TOKENS.value - len(state.soft) - len(state.text)
  length, key = likelihood.rounded(len(prompt)), jax.random.key(SEED.value)
  length = length if length <= room else None  # what is rounded away may just fit
  found = trained.replies(model, made, state, [prompt], generator, key, length=length)
  answer = np.asarray(found.tokens[0])[np.asarray(found.mask[0])]
  commands.say(tokenizer.decode(answer, skip_special_tokens=True).strip())


def check_person(about: About | None, examples: Sequence[Example]) -> None:
  """Refuses flags that do not say together who asks.

  Args:
    about: the policy; None for the model as it is.
    examples: of the person.

  Raises:
    ValueError: for what the policy cannot use, or a user that it does not know.
  """
  if about is None:
    if USER.value or SAYS.value:
      raise ValueError('--user and --says are read by a --policy; give one, or --examples alone')
    return
  if USER.value and examples:
    raise ValueError('--user is known by the policy, and --examples are of a new one; give one')
  if (USER.value and not about.tells_users_apart) or (examples and not about.fits_new_users):
    raise ValueError(
      f'{POLICY.value} answers {"everybody" if USER.value else "all new users"} alike: --user '
      'needs one of individuals or clusters, --examples one of clusters, or of individuals with '
      '--config.policy.inner_steps above 0'
    )
  if USER.value and USER.value not in about.users:
    known = ', '.join([*about.users][:MOST_NAMED])
    more = ', ...' if len(about.users) > MOST_NAMED else ''
    raise ValueError(f'{POLICY.value} does not know the user {USER.value!r}; known: {known}{more}')
  if flags.FLAGS['arm'].present or flags.FLAGS['max_prompt'].present:
    raise ValueError(
      '--arm and --max_prompt are of examples in a prompt; a policy is fitted to them'
    )
  if SAYS.value and not about.text_length:
    raise ValueError(f'{POLICY.value} was tuned without what users say; leave --says out')


def with_examples(
  model: Decoder, encoder: Encoder, examples: Sequence[Example], question: str
) -> str:
  """Returns the question behind the examples that fit, and says how many do not."""
  free = (model.config.max_positions - MAX_TOKENS.value) // likelihood.STEP * likelihood.STEP
  shown = in_context.fitted(
    ARM.value,
    examples,
    question,
    lambda text: len(prompt_of(encoder, text)),
    most=min(MAX_PROMPT.value, free),
  )
  if shown.num_dropped:
    commands.say(f'{shown.num_dropped} of {len(examples)} examples do not fit and are left out')
  return shown.text


def prompt_of(encoder: Encoder, text: str) -> list[int]:
  """Returns the tokens of a person's turn."""
  return encoder.prompt([Turn('user', text)])


def state_of(
  about: About,
  made: Trained,
  model: Decoder,
  base: Params,
  encoder: Encoder,
  examples: Sequence[Example],
) -> UserState:
  """Returns the soft tokens of who asks: a known user, a new one by their examples, or anybody."""
  says = SAYS.value or about.users.get(USER.value, '')
  cut: tokenized.Cut = set()
  context = tokenized.said_by(says, encoder, about.text_length, cut)
  if cut and SAYS.value:
    raise ValueError(f'--says is longer than the {about.text_length} tokens that are read of it')
  row = [*about.users].index(USER.value) if USER.value else len(about.users)
  state = made.policy.state_of(made.params, jnp.asarray(row, jnp.int32), context)
  if not examples:
    return state
  room = model.config.max_positions - len(state.soft) - len(state.text)
  compared = compared_of(model, base, encoder, examples, room)
  return made.policy.learner.adapt(made.params, compared, context, jax.random.key(0))


def compared_of(
  model: Decoder, base: Params, encoder: Encoder, examples: Sequence[Example], room: int
) -> Choices:
  """Returns examples as comparisons of whole replies, with what the base says of them.

  Raises:
    ValueError: for examples of more tokens than there is room for.
  """
  given = [
    Comparison('', (Turn('user', each.prompt),), each.winning, each.losing) for each in examples
  ]
  prompt = max(len(encoder.prompt(each.turns)) for each in given)
  response = max(
    len(encoder.response(text)) for each in given for text in (each.chosen, each.rejected)
  )
  if prompt + response > room:
    raise ValueError(
      f'{EXAMPLES.value}: a prompt of {prompt} tokens and a reply of {response} do not fit in the '
      f'{room} that the model has room for; shorten them'
    )
  made = tokenized.choices_of(given, len(given), encoder, Lengths(prompt, response))
  return reference.with_reference(model, base, made, chunk_size=2)


def read_examples(path: str) -> list[Example]:
  """Returns the examples of a file, in its order.

  Raises:
    ValueError: for another ending, no line, or one without a text of each field, with its number.
  """
  if not path.endswith('.jsonl'):
    raise ValueError(f'--examples must be a .jsonl file, got {path}')
  found = []
  for source, record in files.json_lines(path):
    if not all(isinstance(record.get(field), str) and record[field] for field in FIELDS):
      raise ValueError(f'{source}: an example has texts {", ".join(FIELDS)}; got {sorted(record)}')
    found.append(Example(*(record[field] for field in FIELDS)))
  if not found:
    raise ValueError(f'--examples={path} holds no example; leave it out to ask as anybody')
  return found


if __name__ == '__main__':
  commands.run(main)
