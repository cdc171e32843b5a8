"""A tiny language model, and stores of texts that it reads."""

import numpy as np
import pyarrow as pa
import pytest
import torch
import transformers

from metapers.data import constructed_rewards, feature_store, manifest, reward_table, synthetic
from metapers.testing import tiny_models

SIZES = {
  'vocab_size': 256, 'hidden_size': 16, 'intermediate_size': 24, 'num_hidden_layers': 1,
  'num_attention_heads': 2, 'max_position_embeddings': 512,
}  # fmt: skip
CHAT = (
  "{% for turn in messages %}<bos> {{ turn['role'] }} {{ turn['content'] }} <eos>{% endfor %}"
  '{% if add_generation_prompt %}<bos> assistant {% endif %}'
)


@pytest.fixture(scope='session')
def folders(tmp_path_factory):
  """A store whose texts are words of the tokenizer, and a model."""
  root = tmp_path_factory.mktemp('icl')
  table = synthetic.synthetic_store(num_prompts=40)
  rng = np.random.default_rng(0)

  def words(most):
    return ' '.join(rng.choice(tiny_models.WORDS, rng.integers(1, most)))

  store = feature_store.write_store(
    root / 'store',
    table,
    manifest.Provenance('synthetic, for a test', 'by hand', 'Apache-2.0', 'none', '1'),
    texts=pa.table(
      {
        'prompt': [words(9) for _ in range(40)],
        'responses': [[words(30) for _ in range(8)] for _ in range(40)],
      }
    ),
  )
  torch.manual_seed(0)
  config = transformers.AutoConfig.for_model('llama', **SIZES)
  transformers.AutoModelForCausalLM.from_config(config).save_pretrained(root / 'model')
  tokenizer = tiny_models.tokenizer(pieces=True)
  tokenizer.chat_template = CHAT
  tokenizer.save_pretrained(root / 'model')
  return store, root / 'model'


@pytest.fixture(scope='session')
def constructed(folders, tmp_path_factory):
  """A store of the same texts under two constructed rewards."""
  root = tmp_path_factory.mktemp('constructed')
  table = feature_store.open_store(folders[0])
  replies, names = feature_store.response_texts(folders[0]), ('length', 'brevity')
  pairs = [(prompt, reply) for prompt, own in zip(table.prompt_texts, replies) for reply in own]
  scores = constructed_rewards.score(names, *zip(*pairs)).reshape(*replies.shape, 2)
  mask = reward_table.usable_responses(scores, replies)  # a reply that another one repeats is not
  mean, std = reward_table.statistics(scores, mask, table.prompt_split, names)
  made = table._replace(
    rewards=scores.astype(np.float32), mask=mask, reward_models=names, mean=mean, std=std
  )
  return feature_store.write_store(
    root / 'store',
    made,
    manifest.Provenance('constructed, for a test', 'by hand', 'Apache-2.0', 'none', '1'),
    texts=pa.table({'prompt': table.prompt_texts, 'responses': replies.tolist()}),
  )
