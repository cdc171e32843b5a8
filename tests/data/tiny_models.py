"""Classifiers of five families with random weights and a tokenizer of their own, saved to disk."""

import tokenizers
import torch
import transformers

WORDS = [f'w{number}' for number in range(200)]
SMALL = {
  'hidden_size': 32, 'intermediate_size': 48, 'num_hidden_layers': 2, 'num_attention_heads': 4,
  'vocab_size': 256, 'max_position_embeddings': 512, 'num_labels': 1, 'pad_token_id': 0,
}  # fmt: skip
DECODER = {**SMALL, 'num_key_value_heads': 2}
CONFIGS = {
  'llama': lambda: transformers.LlamaConfig(**DECODER),
  'mistral': lambda: transformers.MistralConfig(**DECODER),
  'gemma': lambda: transformers.GemmaConfig(**DECODER, head_dim=8),
  'gpt_neox': lambda: transformers.GPTNeoXConfig(**SMALL),
  'deberta': lambda: transformers.DebertaV2Config(
    **SMALL, type_vocab_size=0, relative_attention=True, position_buckets=16, pos_att_type=['p2c'],
    pooler_hidden_size=32,
  ),
}  # fmt: skip
CHAT_TEMPLATE = (
  '{{ bos_token }}{% for turn in messages %}'
  "{{ turn['role'] }} {{ turn['content'] }} {{ eos_token }}{% endfor %}"
)


def tokenizer(*, chat=True, pad=True):
  """Makes a tokenizer of whole words."""
  names = ['<pad>', '<bos>', '<eos>', '<unk>', 'user', 'assistant', *WORDS]
  model = tokenizers.models.WordLevel({name: i for i, name in enumerate(names)}, unk_token='<unk>')
  core = tokenizers.Tokenizer(model)
  core.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
  core.post_processor = tokenizers.processors.TemplateProcessing(
    single='<bos> $A', pair='<bos> $A <eos> $B', special_tokens=[('<bos>', 1), ('<eos>', 2)]
  )
  special = {'bos_token': '<bos>', 'eos_token': '<eos>', 'unk_token': '<unk>'}
  special |= {'pad_token': '<pad>'} if pad else {}
  made = transformers.PreTrainedTokenizerFast(tokenizer_object=core, **special)
  if chat:
    made.chat_template = CHAT_TEMPLATE
  return made


def save(folder, family, *, chat=True, seed=0):
  """Saves a classifier of a family; returns its folder as text."""
  torch.manual_seed(seed)
  config = CONFIGS[family]()
  made = transformers.AutoModelForSequenceClassification.from_config(config)
  for parameter in made.parameters():
    if parameter.ndim > 1:  # the usual start is so small that all texts score alike
      torch.nn.init.normal_(parameter, std=0.3)
  made.save_pretrained(folder)
  tokenizer(chat=chat).save_pretrained(folder)
  return str(folder)


def texts(rng, count, longest=60):
  """Draws prompts and responses of very different lengths."""
  prompts = [' '.join(rng.choice(WORDS, rng.integers(1, 9))) for _ in range(count)]
  responses = [' '.join(rng.choice(WORDS, rng.integers(1, longest))) for _ in range(count)]
  return prompts, responses
