"""Models that are told a persona and asked which response they like best, answer by answer.

Three kinds: a reward model scores each response, a decoder of our own says how likely each is, and
a chat endpoint names one. Answers are kept in a journal: what was asked and paid for once is not
asked again.
"""

import functools
import hashlib
import json
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from metapers.analysis import persona_users
from metapers.core.types import Bool, Float, Int
from metapers.data import extras, reward_models
from metapers.io import chat, progress
from metapers.io import journal as journals

FORM = (
  'decoder=FOLDER, reward_model=NAME (of PersonalLLM) or FOLDER, or endpoint=MODEL@https://HOST/v1'
)
LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ'
QUESTION = (
  '{who}Somebody asked an assistant this:\n\n{prompt}\n\nThese are answers to it.\n\n{answers}\n\n'
  'Which of these answers do you like best? Write its letter alone.'
)
WHO = 'You are the person who says of themselves: "{persona}"\n\n'
PARAMETERS = {'temperature': 0.0, 'max_tokens': 16}
KINDS = {'asked': str, 'values': list[float | None]}  # of a line of the journal

Utilities = dict[str, Float[np.ndarray, 'V P R']]


class Asked(NamedTuple):
  """What is asked: every persona, the first of them NOBODY, about every prompt.

  personas: V texts. prompts: P texts. responses: [P, R] texts. mask: where one is real. seed: of
  the order in which an endpoint is shown them.
  """

  personas: tuple[str, ...]
  prompts: Sequence[str]
  responses: np.ndarray
  mask: Bool[np.ndarray, 'P R']
  seed: int = 0

  def real(self, prompt: int) -> list[str]:
    """Returns the real responses to a prompt."""
    return self.responses[prompt][self.mask[prompt]].tolist()

  def told(self, voter: int, prompt: int) -> str:
    """Returns a prompt as a persona asks it."""
    return persona_users.told(self.personas[voter], self.prompts[prompt])


class Cell(NamedTuple):
  """One persona and one prompt, by their numbers."""

  voter: int
  prompt: int


Values = list[float | None]  # of the real responses to a prompt; None for all where there are none


class Reader(NamedTuple):
  """A model that reads personas.

  name: of its users in tables. identity: what its answers depend on beside what is asked. answers:
  `(cells) -> (cell, values)` of each, in any order. utilities: `(values) -> name -> utilities`, of
  the values [V, P, R], NaN where there is no answer.
  """

  name: str
  identity: Mapping[str, Any]
  answers: Callable[[Sequence[Cell]], Iterator[tuple[Cell, Values]]]
  utilities: Callable[[Float[np.ndarray, 'V P R']], Utilities]


Make = Callable[[Asked], Reader]


def reader(text: str) -> tuple[str, Make]:
  """Returns the name of a reader that is given as in FORM, and what makes it.

  Raises:
    ValueError: for a text of another form.
  """
  kind, equals, what = text.partition('=')
  made: dict[str, Callable[[str, Asked], Reader]] = {
    'decoder': decoder, 'reward_model': reward_model, 'endpoint': endpoint,
  }  # fmt: skip
  if kind not in made or not (equals and what) or (kind == 'endpoint' and '@' not in what):
    raise ValueError(f'a reader of personas is given as {FORM}; got {text!r}')
  return text, functools.partial(made[kind], what)


def as_given(name: str, values: Float[np.ndarray, 'V P R']) -> Utilities:
  """Returns values that are utilities as they are."""
  return {name: values}


def reward_model(what: str, asked: Asked) -> Reader:
  """Returns a reward model that scores responses to a prompt with the persona before it.

  Raises:
    ValueError: for a model that cannot be read, or packages that are missing.
  """
  extras.require('extract', extras.MODELS)
  # torch is needed here alone.
  from metapers.data.reward_scorer import Scorer

  published = {model.name for model in reward_models.PERSONAL_LLM}
  folder = {'name': pathlib.Path(what).name, 'model': what}
  spec = reward_models.reward_model(what if what in published else folder)
  scorer = Scorer(spec, reward_models.Options())

  def answers(cells):
    for cell in cells:
      shown = asked.real(cell.prompt)
      scores = scorer([asked.told(*cell)] * len(shown), shown).scores
      assert scores is not None  # of pooling 'score'
      yield cell, scores.tolist()

  name = f'personas by the reward model {spec.name}'
  identity = {'reward_model': spec.model, 'version': scorer.version}
  return Reader(name, identity, answers, functools.partial(as_given, name))


def decoder(what: str, asked: Asked) -> Reader:
  """Returns a decoder of a Hugging Face folder, by log p(response | persona, prompt).

  Raises:
    ValueError: for a folder that cannot be read, or a tokenizer without a chat template or
      with tokens that the model does not have.
  """
  import transformers  # reads tokenizers: half a second that other studies need not wait for

  from metapers.llm import chat_tokens, hf_config, likelihood, load
  from metapers.llm import decoder as decoders

  folder = pathlib.Path(what)
  model, params = decoders.decoder(hf_config.read(folder)), load.params(folder)
  tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
  chat_form = chat_tokens.of(tokenizer, model.config.vocab_size)
  score = likelihood.scorer(model, batch_size=asked.mask.shape[1])  # short ones

  def question(cell):
    responses = [chat_form.response(text) for text in asked.real(cell.prompt)]
    return likelihood.Asked(chat_form.prompt(asked.told(*cell)), responses)

  def answers(cells):
    for cell in cells:
      yield cell, score(params, question(cell)).log_probs.tolist()

  def utilities(log_probs):
    found = persona_users.utilities(log_probs, num_tokens(asked, chat_form.response))
    return {f'{name}, {way}': values for way, values in found.items()}

  name = f'personas by the decoder {folder.name}'
  found = load.fingerprint(folder)
  return Reader(name, {'decoder': folder.name, 'files': found}, answers, utilities)


def num_tokens(asked: Asked, tokens: Callable[[str], Sequence[int]]) -> Int[np.ndarray, 'P R']:
  """Returns the number of tokens of each response, 0 for none."""
  found = np.zeros(asked.mask.shape, np.int64)
  found[asked.mask] = [len(tokens(text)) for text in asked.responses[asked.mask].tolist()]
  return found


def endpoint(what: str, asked: Asked) -> Reader:
  """Returns a chat model that is shown all responses, in an order of its own, and names one.

  Its utilities are 1 for the response named and 0 for the others.

  Raises:
    ValueError: for a URL of another form, or a missing key.
  """
  model, _, url = what.rpartition('@')
  client = chat.Client(url)

  def answers(cells):
    orders = [order_of(asked, cell) for cell in cells]
    requests = (
      chat.Request(model, [question(asked, cell, order)], PARAMETERS)
      for cell, order in zip(cells, orders)
    )
    for number, found in chat.complete_all(client, requests):
      text = found.text if isinstance(found, chat.Completion) else ''
      yield cells[number], one_hot(letter_of(text, len(orders[number])), orders[number])

  name = f'personas by the chat model {model}'
  identity = {'endpoint': client.base_url, 'model': model, **PARAMETERS, 'seed': asked.seed}
  return Reader(name, identity, answers, functools.partial(as_given, name))


def order_of(asked: Asked, cell: Cell) -> Int[np.ndarray, 'R']:
  """Returns the order in which the real responses to a prompt are shown to a persona."""
  rng = np.random.default_rng([asked.seed, 18, int(key_of(asked, cell)[:8], 16)])
  return rng.permutation(int(asked.mask[cell.prompt].sum()))


def question(asked: Asked, cell: Cell, order: Int[np.ndarray, 'R']) -> dict[str, str]:
  """Returns the message that asks a chat model which response a persona likes best."""
  shown, persona = asked.real(cell.prompt), asked.personas[cell.voter]
  answers = '\n\n'.join(f'[{LETTERS[place]}]\n{shown[n]}' for place, n in enumerate(order))
  who = '' if persona == persona_users.NOBODY else WHO.format(persona=persona)
  text = QUESTION.format(who=who, prompt=asked.prompts[cell.prompt], answers=answers)
  return {'role': 'user', 'content': text}


def letter_of(text: str, num_letters: int) -> int | None:
  """Returns the place of the letter that a text begins with, or of the only one it holds alone."""
  letters = LETTERS[:num_letters]
  found = re.match(rf'\W*([{letters}])\b', text)
  if found:
    return letters.index(found[1])
  alone = set(re.findall(rf'\b([{letters}])\b', text))
  return letters.index(alone.pop()) if len(alone) == 1 else None


def one_hot(place: int | None, order: Int[np.ndarray, 'R']) -> Values:
  """Returns 1 for the response that was shown at a place, 0 for the others; None for no place."""
  if place is None:
    return [None] * len(order)
  return [float(n == order[place]) for n in range(len(order))]


def collect(made: Reader, asked: Asked, path: pathlib.Path) -> Float[np.ndarray, 'V P R']:
  """Returns the values of every response to every persona, asking for those that a journal lacks.

  Args:
    made: who is asked.
    asked: about what. An answer is kept by what was asked, so that another choice of personas or
      prompts finds what it has in common with this one.
    path: of the journal.

  Returns:
    The values, NaN where a response is not real or there is no answer.

  Raises:
    ValueError: as the reader; for a journal of another one.
    OSError: for an endpoint that cannot be reached.
  """
  cells = [Cell(*map(int, each)) for each in np.ndindex(len(asked.personas), len(asked.prompts))]
  keys = {cell: key_of(asked, cell) for cell in cells}
  journal = journals.Journal(path, made.identity, KINDS)
  known = {one['asked']: one['values'] for one in journal.records}
  missing = [cell for cell in cells if None in known.get(keys[cell], [None])]
  num_known = len(cells) - len(missing)
  try:
    with progress.bar(made.name, len(cells), unit='answer', initial=num_known) as bar:
      for cell, values in made.answers(missing):
        known[keys[cell]] = values
        journal.add({'asked': keys[cell], 'values': values})
        bar.update()
  finally:
    journal.close()
  table = np.full((len(asked.personas), *asked.mask.shape), np.nan)
  for cell in cells:
    values = np.array(known[keys[cell]], np.float64)
    table[cell.voter, cell.prompt, asked.mask[cell.prompt]] = values
  return table


def key_of(asked: Asked, cell: Cell) -> str:
  """Returns what tells what a persona is asked about one prompt from all else."""
  content = [asked.personas[cell.voter], asked.prompts[cell.prompt], asked.real(cell.prompt)]
  wording = [persona_users.TOLD, QUESTION, WHO]
  return hashlib.sha256(json.dumps([content, wording]).encode()).hexdigest()
