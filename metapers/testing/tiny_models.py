"""Classifiers of five families with random weights and a tokenizer of their own, saved to disk.

They stand in for reward models of the same families where none can be downloaded. Needs torch.
"""

import os
from typing import Any

import numpy as np
import tokenizers
import torch
import transformers

WORDS = [f'w{number}' for number in range(200)]
NAMES = ['<pad>', '<bos>', '<eos>', '<unk>', 'user', 'assistant', *WORDS]
SMALL: dict[str, Any] = {
  'intermediate_size': 48, 'num_hidden_layers': 2, 'num_attention_heads': 4, 'vocab_size': 256,
  'max_position_embeddings': 4096, 'num_labels': 1, 'pad_token_id': 0,
}  # fmt: skip
FAMILIES: dict[str, dict[str, Any]] = {
  'llama': {},
  'mistral': {'num_key_value_heads': 2},
  'gemma': {'num_key_value_heads': 2, 'head_dim': 8},
  'gpt_neox': {},
  'deberta-v2': {
    'type_vocab_size': 0, 'relative_attention': True, 'position_buckets': 16,
    'pos_att_type': ['p2c'],
  },
}  # fmt: skip
CHAT_TEMPLATE = (
  '{{ bos_token }}{% for turn in messages %}'
  "{{ turn['role'] }} {{ turn['content'] }} {{ eos_token }}{% endfor %}"
)


def tokenizer(*, chat: bool = True, pieces: bool = False) -> Any:
  """Returns a tokenizer of whole words, or of pieces of four characters.

  Args:
    chat: gives it a chat template.
    pieces: real texts then have about as many tokens as with a usual vocabulary.
  """
  model = tokenizers.models.WordLevel({name: i for i, name in enumerate(NAMES)}, unk_token='<unk>')
  core = tokenizers.Tokenizer(model)
  core.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
  if pieces:
    every_four = tokenizers.Regex(r'[\s\S]{1,4}')
    core.pre_tokenizer = tokenizers.pre_tokenizers.Split(every_four, 'isolated')
  core.post_processor = tokenizers.processors.TemplateProcessing(
    single='<bos> $A', pair='<bos> $A <eos> $B', special_tokens=[('<bos>', 1), ('<eos>', 2)]
  )
  special = {'bos_token': '<bos>', 'eos_token': '<eos>', 'unk_token': '<unk>', 'pad_token': '<pad>'}
  made = transformers.PreTrainedTokenizerFast(tokenizer_object=core, **special)
  if chat:
    made.chat_template = CHAT_TEMPLATE
  return made


def save_model(
  folder: str | os.PathLike,
  family: str,
  *,
  width: int = 32,
  chat: bool = True,
  pieces: bool = False,
) -> str:
  """Saves a classifier of a family and hidden width with its tokenizer, and returns the folder."""
  torch.manual_seed(0)
  sizes = SMALL | {'hidden_size': width} | FAMILIES[family]
  config = transformers.AutoConfig.for_model(family, **sizes)
  made = transformers.AutoModelForSequenceClassification.from_config(config)
  for parameter in made.parameters():
    if parameter.ndim > 1:  # the usual start is so small that all texts score alike
      torch.nn.init.normal_(parameter, std=1.7 / width**0.5)
  made.save_pretrained(folder)
  tokenizer(chat=chat, pieces=pieces).save_pretrained(folder)
  return str(folder)


def draw_texts(count: int, longest: int = 60) -> tuple[list[str], list[str]]:
  """Returns prompts and responses of very different lengths, in the tokenizer's own words."""
  rng = np.random.default_rng(0)
  prompts = [' '.join(rng.choice(WORDS, rng.integers(1, 9))) for _ in range(count)]
  return prompts, [' '.join(rng.choice(WORDS, rng.integers(1, longest))) for _ in range(count)]
