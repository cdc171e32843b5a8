import functools
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_checkpoints
import torch
import transformers

from metapers.llm import decoder, generate, hf_config, load, prompting
from metapers.llm.generate import Sampling

NUM_TOKENS = 12
KEY = jax.random.key(0)


@functools.cache
def loaded(family):
  with tempfile.TemporaryDirectory() as folder:
    tiny_checkpoints.save(folder, family)
    return decoder.decoder(hf_config.read(folder)), load.params(folder)


def prompts():
  rows = [[1, 40, 41, 42, 43, 44], [1, 7], [1, 90, 91, 92]]
  return prompting.padded(rows, side='left')


def inputs_of(family):
  model, params = loaded(family)
  tokens, mask = prompts()
  return prompting.Inputs(model.embed(params, jnp.array(tokens)), jnp.array(mask))


@functools.cache
def first(family='llama 3', **options):
  """Returns what our greedy generation gives of the prompts."""
  model, params = loaded(family)
  generator = generate.generator(model, num_tokens=NUM_TOKENS, **options)
  return generator(params, inputs_of(family), KEY)


def by_torch(family, end_tokens=(), **given):
  settings = transformers.GenerationConfig(
    max_new_tokens=NUM_TOKENS, do_sample=False, eos_token_id=list(end_tokens) or None,
    pad_token_id=0,
  )  # fmt: skip
  made = tiny_checkpoints.model(family)
  made.generation_config = transformers.GenerationConfig()
  mask = torch.tensor(np.asarray(given.pop('mask')), dtype=torch.long)
  found = made.generate(attention_mask=mask, generation_config=settings, **given).numpy()
  return np.pad(found, [(0, 0), (0, max(0, NUM_TOKENS - found.shape[1]))])


@pytest.mark.parametrize('family', ['llama 3.1', 'smollm2', 'qwen2', 'qwen3', 'gemma'])
def test_the_likeliest_tokens_are_those_of_transformers(family):
  tokens, mask = prompts()
  given = torch.tensor(tokens, dtype=torch.long)
  expected = by_torch(family, input_ids=given, mask=mask)[:, tokens.shape[1] :]
  found = first(family)
  np.testing.assert_array_equal(found.tokens, expected)
  assert found.mask.all() and len(np.unique(found.tokens)) > 5


def test_from_soft_prompts_as_transformers_from_embeddings():
  model, params = loaded('llama 3')
  soft = jnp.array(np.random.default_rng(0).normal(size=(3, 2, 32)), jnp.float32)
  inputs = prompting.with_soft_prompt(inputs_of('llama 3'), soft, has_bos=True)
  found = generate.generator(model, num_tokens=NUM_TOKENS)(params, inputs, KEY)
  embeddings = torch.tensor(np.asarray(inputs.embeddings))
  expected = by_torch('llama 3', inputs_embeds=embeddings, mask=inputs.mask)
  np.testing.assert_array_equal(found.tokens, expected[:, :NUM_TOKENS])
  assert (found.tokens != first().tokens).any(-1).all()


def test_responses_end_where_those_of_transformers_do():
  ends = (int(first().tokens[0, 4]), int(first().tokens[1, 7]))
  found = first(end_tokens=ends)
  tokens, mask = prompts()
  given = torch.tensor(tokens, dtype=torch.long)
  expected = by_torch('llama 3', ends, input_ids=given, mask=mask)[:, tokens.shape[1] :]
  np.testing.assert_array_equal(found.tokens, expected[:, :NUM_TOKENS])
  lengths = np.asarray(found.mask.sum(-1))
  assert lengths[0] <= 5 and lengths[1] <= 8
  for row, length in enumerate(lengths):
    assert found.mask[row, :length].all() and not found.tokens[row, length:].any()
    assert length == NUM_TOKENS or int(found.tokens[row, length - 1]) in ends


@pytest.mark.parametrize(
  'sampling',
  [Sampling(0.7), Sampling(1.0, top_k=5), Sampling(1.3, top_p=0.6), Sampling(0.8, 9, 0.7)],
)
def test_what_may_be_drawn_is_that_of_transformers(sampling):
  logits = np.random.default_rng(0).normal(size=(4, 50)).astype(np.float32) * 2
  expected = transformers.TemperatureLogitsWarper(sampling.temperature)(None, torch.tensor(logits))
  if sampling.top_k:
    expected = transformers.TopKLogitsWarper(sampling.top_k)(None, expected)
  if sampling.top_p < 1:
    expected = transformers.TopPLogitsWarper(sampling.top_p)(None, expected)
  found = generate.drawable(jnp.array(logits), sampling)
  np.testing.assert_allclose(found, expected.numpy(), rtol=1e-6)


def test_drawn_tokens_have_the_probabilities_of_the_model():
  model, params = loaded('llama 3')
  sampling = Sampling(0.9, top_k=8)
  inputs = jax.tree.map(lambda x: jnp.repeat(x[:1], 4000, 0), inputs_of('llama 3'))
  tokens = generate.generator(model, num_tokens=1, sampling=sampling)(params, inputs, KEY).tokens
  shares = np.bincount(np.asarray(tokens)[:, 0], minlength=128) / 4000
  hidden = model.hidden(params, inputs.embeddings[:1], inputs.mask[:1])
  expected = jax.nn.softmax(generate.drawable(model.logits(params, hidden[:, -1]), sampling))[0]
  assert (expected > 0).sum() == 8
  np.testing.assert_allclose(shares, expected, rtol=0, atol=0.03)


def test_a_draw_depends_on_its_key_and_not_on_the_prompts_beside_it():
  model, params = loaded('llama 3')
  inputs = inputs_of('llama 3')
  draw = generate.generator(model, num_tokens=6, sampling=Sampling(2.0))
  tokens = draw(params, inputs, KEY).tokens
  np.testing.assert_array_equal(tokens, draw(params, inputs, KEY).tokens)
  assert (tokens != draw(params, inputs, jax.random.key(1)).tokens).any()
  fewer = jax.tree.map(lambda x: x[:2], inputs)
  np.testing.assert_array_equal(tokens[:2], draw(params, fewer, KEY).tokens)


def test_options_out_of_range_and_padding_on_the_right_are_refused():
  model, params = loaded('llama 3')
  for options, message in (
    ({'num_tokens': 0}, 'num_tokens must be at least 1, got 0'),
    ({'sampling': Sampling(-1.0)}, 'temperature must be finite and at least 0, got -1.0'),
    ({'sampling': Sampling(top_k=-1)}, 'top_k must be at least 0'),
    ({'sampling': Sampling(top_p=0.0)}, 'top_p must be above 0'),
  ):
    with pytest.raises(ValueError, match=message):
      generate.generator(model, **({'num_tokens': 1} | options))
  inputs = inputs_of('llama 3')
  flipped = inputs._replace(mask=inputs.mask[:, ::-1])
  with pytest.raises(ValueError, match='padded on the left'):
    generate.generator(model, num_tokens=1)(params, flipped, KEY)
  with pytest.raises(ValueError, match='6 positions and a response of 8187 tokens do not fit'):
    generate.generator(model, num_tokens=8187)(params, inputs, KEY)
