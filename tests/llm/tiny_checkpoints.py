"""Tiny random checkpoints of every family by transformers, and what torch computes of them."""

import functools

import numpy as np
import torch
import transformers

SIZES = {
  'vocab_size': 128, 'hidden_size': 32, 'intermediate_size': 48, 'num_hidden_layers': 2,
  'num_attention_heads': 4, 'num_key_value_heads': 2, 'max_position_embeddings': 8192,
  'bos_token_id': 1, 'eos_token_id': 2, 'pad_token_id': 0,
}  # fmt: skip
LLAMA3 = {
  'rope_type': 'llama3', 'rope_theta': 500_000.0, 'factor': 8.0, 'low_freq_factor': 1.0,
  'high_freq_factor': 4.0, 'original_max_position_embeddings': 1024,
}  # fmt: skip


def plain(theta):
  """Returns the settings of a rotary embedding that is not stretched."""
  return {'rope_type': 'default', 'rope_theta': theta}


FAMILIES = {
  'llama 2': {'model_type': 'llama', 'rope_parameters': plain(10_000.0), 'num_key_value_heads': 4},
  'llama 3': {'model_type': 'llama', 'rope_parameters': plain(500_000.0)},
  'llama 3.1': {'model_type': 'llama', 'rope_parameters': LLAMA3},
  'llama 3.2': {'model_type': 'llama', 'rope_parameters': LLAMA3, 'tie_word_embeddings': True},
  'smollm2': {
    'model_type': 'llama', 'rope_parameters': plain(100_000.0), 'tie_word_embeddings': True,
    'num_attention_heads': 3, 'num_key_value_heads': 1, 'hidden_size': 48,
  },
  'qwen2': {'model_type': 'qwen2', 'rope_parameters': plain(1_000_000.0)},
  'qwen2 tied': {
    'model_type': 'qwen2', 'rope_parameters': plain(1_000_000.0), 'tie_word_embeddings': True,
  },
  'qwen3': {'model_type': 'qwen3', 'rope_parameters': plain(1_000_000.0), 'head_dim': 16},
  'qwen3 tied': {
    'model_type': 'qwen3', 'rope_parameters': plain(1_000_000.0), 'head_dim': 16,
    'tie_word_embeddings': True,
  },
  'mistral': {
    'model_type': 'mistral', 'rope_parameters': plain(1_000_000.0), 'sliding_window': None,
  },
  'gemma': {'model_type': 'gemma', 'rope_parameters': plain(10_000.0), 'head_dim': 16},
}  # fmt: skip


@functools.cache
def model(family, dtype=torch.float32, **changes):
  """Returns a model whose logits differ by several units from token to token."""
  torch.manual_seed(0)
  settings = SIZES | FAMILIES[family] | changes
  config = transformers.AutoConfig.for_model(**settings)
  made = transformers.AutoModelForCausalLM.from_config(config).eval()
  for name, parameter in made.named_parameters():
    if 'norm' in name:
      torch.nn.init.normal_(parameter, mean=0.0 if family == 'gemma' else 1.0, std=0.2)
    else:  # the usual start is so small that nothing depends on positions
      torch.nn.init.normal_(parameter, std=1.5 / parameter.shape[-1] ** 0.5)
  return made.to(dtype)


def save(folder, family, **options):
  """Saves a model, and returns the folder."""
  made = model(family, **options.pop('changes', {}))
  made.save_pretrained(folder, **options)
  return folder


def draw(length):
  """Returns tokens [3, length] and a mask: one row whole, one padded left, one right."""
  rng = np.random.default_rng(0)
  tokens = rng.integers(3, SIZES['vocab_size'], (3, length)).astype(np.int32)
  mask = np.ones((3, length), bool)
  mask[1, : length // 3], mask[2, -(length // 3) :] = False, False
  return np.where(mask, tokens, 0), mask


@torch.no_grad()
def logits(made, tokens, mask):
  """Returns torch's logits, with positions that count what is real."""
  positions = np.clip(np.cumsum(mask, -1) - 1, 0, None)
  found = made(
    input_ids=torch.tensor(tokens, dtype=torch.long),
    attention_mask=torch.tensor(mask, dtype=torch.long),
    position_ids=torch.tensor(positions),
  )
  return found.logits.float().numpy()
