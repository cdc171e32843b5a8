"""Reward models by name: where their weights are, what they read, and how they are run."""

import datetime
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from metapers.core.types import Float
from metapers.data import rendering

# How a prompt and a response become one text where the tokenizer has no chat template of its own.
TEMPLATES = {
  'user_assistant': 'User: {prompt}\nAssistant: {response}',
  'beaver': 'BEGINNING OF CONVERSATION: USER: {prompt} ASSISTANT:{response}',
  'oasst': '<|prompter|>{prompt}<|endoftext|><|assistant|>{response}<|endoftext|>',
  'plain': '{response}',
}
PAIR = 'pair'  # the tokenizer takes prompt and response as a pair of segments
CHAT = 'chat'  # the tokenizer's own chat template
# What a text that is too long loses. Recorded with parts and stores: those cut by another rule hold
# other scores.
CUT = 'the start of its prompt; without any prompt, the end of its response'
FEWEST_TOKENS = 8  # of a text
POOLINGS = ('score', 'mean', 'cls', 'last')
DTYPES = ('float32', 'bfloat16', 'float16')


class RewardModel(NamedTuple):
  """One model that reads a prompt and a response.

  name: under which its scores are kept. model: id on the hub, or a folder. revision: commit; a
  folder has none. tokenizer: id of another repository's, or ''. template: CHAT, PAIR or one of
  TEMPLATES. sign: -1 for a cost. pooling: 'score' for a classifier's output, else that of an
  encoder's last hidden states, which gives features only. key_mapping: regular expressions that
  rename weights. ignored: weights that may be left unused. label: which output of a classifier that
  has several; '' for one that has one. max_length: tokens that it reads; 0 for that of the options.
  """

  name: str
  model: str
  revision: str = 'main'
  tokenizer: str = ''
  template: str = CHAT
  sign: float = 1.0
  pooling: str = 'score'
  key_mapping: Mapping[str, str] | None = None
  ignored: tuple[str, ...] = ()
  label: str = ''
  max_length: int = 0


class Options(NamedTuple):
  """How a model is run: all of it is recorded with the scores.

  allow_pickle: load weights that are not safetensors. batch_size: texts at once. bucket: texts of
  like length share a batch. date: ISO, that chat templates print in place of today's. dtype: of the
  weights. layer: whose hidden states become features, -1 for the last. max_length: tokens, of
  models that have none of their own; longer texts are cut, as CUT says, and counted.
  """

  allow_pickle: bool = False
  batch_size: int = 16
  bucket: bool = True
  date: str = rendering.DATE
  dtype: str = 'float32'
  layer: int = -1
  max_length: int = 2048


class Scored(NamedTuple):
  """What a model makes of N texts.

  scores: [N], features: [N, D], each if it makes them. num_truncated: texts that had to be cut.
  version: of the model, such as a commit; parts of different versions are not joined.
  """

  scores: Float[np.ndarray, 'N'] | None
  features: Float[np.ndarray, 'N D'] | None
  num_truncated: int
  version: str


# PersonalLLM's ten (Zollo et al. 2024, arXiv:2409.20296), by its aliases. The first is a COST.
PERSONAL_LLM = (
  RewardModel(
    'beaver_7b', 'PKU-Alignment/beaver-7b-v1.0-cost', template='beaver', sign=-1.0,
    key_mapping={r'^score_head\.': 'score.'}, ignored=('normalizer',),
  ),
  RewardModel('gemma_2b', 'weqweasdas/RM-Gemma-2B'),
  RewardModel('gemma_7b', 'weqweasdas/RM-Gemma-7B'),
  RewardModel('llama3_sfairx', 'sfairXC/FsfairX-LLaMA3-RM-v0.1'),
  RewardModel(
    'mistral_raft', 'hendrydong/Mistral-RM-for-RAFT-GSHF-v0',
    tokenizer='mistralai/Mistral-7B-Instruct-v0.2',
  ),
  RewardModel('mistral_ray', 'Ray2333/reward-model-Mistral-7B-instruct-Unified-Feedback'),
  RewardModel('mistral_weqweasdas', 'weqweasdas/RM-Mistral-7B'),
  RewardModel(
    'oasst_deberta_v3', 'OpenAssistant/reward-model-deberta-v3-large-v2', template=PAIR
  ),
  RewardModel(
    'oasst_pythia_1b', 'OpenAssistant/oasst-rm-2.1-pythia-1.4b-epoch-2.5', template='oasst',
    key_mapping={r'^out_proj\.': 'score.'},
  ),
  RewardModel(
    'oasst_pythia_7b', 'OpenAssistant/oasst-rm-2-pythia-6.9b-epoch-1', template='oasst',
    key_mapping={r'^out_proj\.': 'score.'},
  ),
)  # fmt: skip


def reward_model(given: str | Mapping[str, Any]) -> RewardModel:
  """Returns one of PersonalLLM's reward models by its name, or another one by its fields.

  Raises:
    ValueError: for a name, a field or a value that is not known; lists the known ones.
  """
  known = {model.name: model for model in PERSONAL_LLM}
  if isinstance(given, str):
    if given not in known:
      raise ValueError(f'unknown reward model {given!r}; known: {", ".join(known)}, or give fields')
    return known[given]
  fields = dict(given)
  if not {'name', 'model'} <= set(fields) <= set(RewardModel._fields):
    raise ValueError(
      f'a reward model needs the fields name and model, and may have '
      f'{", ".join(RewardModel._fields[2:])}; got {", ".join(map(str, fields))}'
    )
  return checked_model(RewardModel(**fields))


def checked_model(model: RewardModel) -> RewardModel:
  """Returns the model, whose fields are known to be valid.

  Raises:
    ValueError: naming the field, the value given and the values allowed.
  """
  templates = (CHAT, PAIR, *TEMPLATES)
  if model.template not in templates:
    raise ValueError(
      f'{model.name}: template must be one of {", ".join(templates)}, got {model.template!r}'
    )
  if model.pooling not in POOLINGS:
    raise ValueError(
      f'{model.name}: pooling must be one of {", ".join(POOLINGS)}, got {model.pooling!r}'
    )
  if not model.name or not model.model:
    raise ValueError(f'a reward model needs a name and a model, got {model}')
  if model.max_length != 0 and model.max_length < FEWEST_TOKENS:
    raise ValueError(
      f'{model.name}: max_length must be at least {FEWEST_TOKENS}, or 0 for that of the options; '
      f'got {model.max_length}'
    )
  return model


def checked_options(options: Options) -> Options:
  """Returns the options, which are known to be valid.

  Raises:
    ValueError: naming the option, the value given and the values allowed.
  """
  if options.dtype not in DTYPES:
    raise ValueError(f'dtype must be one of {", ".join(DTYPES)}, got {options.dtype!r}')
  if options.max_length < FEWEST_TOKENS or options.batch_size < 1:
    raise ValueError(
      f'max_length must be at least {FEWEST_TOKENS} and batch_size at least 1, got '
      f'{options.max_length} and {options.batch_size}'
    )
  try:
    datetime.date.fromisoformat(options.date)
  except ValueError as error:
    raise ValueError(f'date must be written as 2024-07-26, got {options.date!r}') from error
  return options


class TextError(ValueError):
  """A text that a model's own template refuses; `text` is its number among those given."""

  def __init__(self, text: int, message: str):
    super().__init__(message)
    self.text = text
