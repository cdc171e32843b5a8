"""Reward models by name: where their weights are, how they want to be asked, which way is up."""

from collections.abc import Mapping
from typing import NamedTuple

# How a prompt and a response become one text where the tokenizer has no chat template of its own.
TEMPLATES = {
  'user_assistant': 'User: {prompt}\nAssistant: {response}',
  'beaver': 'BEGINNING OF CONVERSATION: USER: {prompt} ASSISTANT:{response}',
  'oasst': '<|prompter|>{prompt}<|endoftext|><|assistant|>{response}<|endoftext|>',
  'plain': '{response}',
}
PAIR = 'pair'  # the tokenizer takes prompt and response as a pair of segments
CHAT = 'chat'  # the tokenizer's own chat template
POOLINGS = ('score', 'mean', 'cls', 'last')


class RewardModel(NamedTuple):
  """One model that reads a prompt and a response.

  name: under which its scores are kept. model: id on the hub, or a folder. revision: commit; a
  folder has none. tokenizer: id of another repository's, or ''. template: CHAT, PAIR or one of
  TEMPLATES. sign: -1 for a cost. pooling: 'score' for a classifier's output, else that of an
  encoder's last hidden states, which gives features only. key_mapping: regular expressions that
  rename weights. ignored: weights that may be left unused.
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


def named(models: tuple[RewardModel, ...] = PERSONAL_LLM) -> dict[str, RewardModel]:
  """Returns the models by name."""
  return {model.name: model for model in models}


def check(model: RewardModel) -> RewardModel:
  """Refuses a specification that means nothing.

  Raises:
    ValueError: naming the field, what was given and what would do.
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
  return model
