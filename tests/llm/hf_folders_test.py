"""Folders of Hugging Face's form: what is read, what is refused, what is written."""

import json
import pathlib
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
import tiny_checkpoints
import transformers

from metapers.llm import decoder, hf_config, load, lora, save

PLAIN = {
  'model_type': 'llama', 'vocab_size': 10, 'hidden_size': 8, 'intermediate_size': 4,
  'num_hidden_layers': 1, 'num_attention_heads': 2, 'rms_norm_eps': 1e-5,
}  # fmt: skip
LLAMA3 = {
  'rope_type': 'llama3', 'factor': 8.0, 'low_freq_factor': 1.0, 'high_freq_factor': 4.0,
  'original_max_position_embeddings': 8192,
}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
  return tiny_checkpoints.save(tmp_path / 'model', 'llama 3')


def logits(config, params, tokens, mask):
  model = decoder.decoder(config)
  return model.logits(params, model.hidden(params, model.embed(params, tokens), mask))


def rewrite(folder, change):
  """Changes the arrays of a folder of one file."""
  path = pathlib.Path(folder, load.FILE)
  arrays = safetensors.numpy.load_file(path)
  change(arrays)
  safetensors.numpy.save_file(arrays, path, metadata={'format': 'pt'})


def test_both_forms_of_rotary_settings_are_read():
  older = hf_config.of_json(PLAIN | {'rope_theta': 5e5, 'rope_scaling': LLAMA3})
  newer = hf_config.of_json(PLAIN | {'rope_parameters': LLAMA3 | {'rope_theta': 5e5}})
  assert older == newer and older.rope.theta == 5e5
  assert older.rope.stretch == (8.0, 1.0, 4.0, 8192)
  assert hf_config.of_json(PLAIN | {'rope_theta': 7, 'rope_scaling': None}).rope == (7.0, None)
  assert hf_config.of_json(PLAIN).rope == (10_000.0, None)


def test_gemmas_first_files_are_read_as_transformers_reads_them():
  first = {'model_type': 'gemma', 'num_key_value_heads': 1, 'head_dim': 16, 'hidden_act': 'gelu'}
  config = hf_config.of_json(PLAIN | first)
  assert config.is_tied and config.activation == 'gelu_tanh' and config.scales_embeddings
  assert hf_config.to_json(config, 'float32')['model_type'] == 'gemma'
  said = {'hidden_act': 'gelu_pytorch_tanh', 'hidden_activation': None}
  assert hf_config.of_json(PLAIN | first | said) == config
  with pytest.raises(ValueError, match='no family has'):
    hf_config.to_json(config._replace(norm_offset=0), 'float32')


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'model_type': 'gemma2'}, "model_type 'gemma2'; those that load are .*'llama'"),
    ({'architectures': ['LlamaForSequenceClassification']}, r"\['LlamaForCausalLM'\] loads"),
    ({'attention_bias': True, 'hidden_act': 'gelu'}, "attention_bias = True, hidden_act = 'gelu'"),
    ({'rope_scaling': {'type': 'linear', 'factor': 2.0}}, "rope_type = 'linear'"),
    ({'rope_parameters': {'attention_factor': 2.0}}, 'rope attention_factor = 2.0'),
    ({'quantization_config': {'bits': 4}}, 'quantization_config = '),
    ({'model_type': 'mistral', 'num_key_value_heads': 1}, 'sliding_window = its default'),
    (
      {'model_type': 'qwen2', 'num_key_value_heads': 1, 'use_sliding_window': True,
       'sliding_window': 64, 'layer_types': ['full_attention', 'sliding_attention']},
      "layer_types with 'sliding_attention', sliding_window = 64",
    ),
    ({'model_type': 'qwen2'}, "lacks the field 'num_key_value_heads'"),
    ({'model_type': 'qwen3', 'num_key_value_heads': 1}, "lacks the field 'head_dim'"),
    (
      {'model_type': 'gemma', 'num_key_value_heads': 1, 'head_dim': 16, 'hidden_act': 'silu'},
      "hidden_act = 'silu'",
    ),
    ({'is_causal': False}, 'is_causal = False'),
    ({'is_causal': None}, 'is_causal = None'),  # which transformers reads as False
    ({'per_layer_config': {'0': {'intermediate_size': 2}}}, 'per_layer_config = '),
    (
      {'rope_scaling': LLAMA3, 'original_max_position_embeddings': 16},
      'original_max_position_embeddings = 16 beside 8192 of the rope',
    ),
    ({'hidden_size': 9}, 'lacks head_dim'),
    ({'num_hidden_layers': '2'}, "field 'num_hidden_layers' must be"),
    ({'rope_scaling': LLAMA3 | {'high_freq_factor': 0.5}}, 'low_freq_factor must be below'),
  ],
)  # fmt: skip
def test_what_is_not_computed_is_refused_by_name(changes, message):
  hf_config.of_json(PLAIN)
  with pytest.raises(ValueError, match=message):
    hf_config.of_json(PLAIN | changes)


def test_fields_that_change_nothing_are_let_pass():
  inert = {
    'pretraining_tp': 1, 'transformers.js_config': {}, 'is_llama_config': True, 'use_cache': False,
    'is_causal': True, 'sliding_window': 4096, 'original_max_position_embeddings': 16,
  }  # fmt: skip
  assert hf_config.of_json(PLAIN | inert) == hf_config.of_json(PLAIN)
  twice = {'rope_scaling': LLAMA3, 'original_max_position_embeddings': 8192}
  assert hf_config.of_json(PLAIN | twice) == hf_config.of_json(PLAIN | {'rope_scaling': LLAMA3})


def test_every_weight_that_does_not_fit_is_named(folder):
  def change(arrays):
    del arrays['model.layers.1.mlp.up_proj.weight']
    arrays['model.layers.0.self_attn.q_proj.bias'] = np.zeros(32, np.float32)
    arrays['model.norm.weight'] = np.zeros(31, np.float32)
    arrays['lm_head.weight'] = np.zeros((128, 32), np.int8)

  rewrite(folder, change)
  with pytest.raises(ValueError) as refused:
    load.params(folder)
  for words in (
    '4 weights', 'layers.1.mlp.up_proj.weight is missing', 'q_proj.bias is not read',
    r'model.norm.weight is [31], not [32]', 'lm_head.weight is I8',
  ):  # fmt: skip
    assert words in str(refused.value)


def test_angles_that_follow_from_the_configuration_may_be_there(folder):
  before = load.params(folder)
  name = f'model.layers.0.{load.DERIVED}'
  rewrite(folder, lambda arrays: arrays.update({name: np.zeros(4, np.float32)}))
  for one, other in zip(jax.tree.leaves(before), jax.tree.leaves(load.params(folder))):
    np.testing.assert_array_equal(one, other)


def test_a_head_that_is_tied_and_differs_is_refused(tmp_path):
  folder = tiny_checkpoints.save(tmp_path / 'model', 'llama 3.2')

  def equal(arrays):
    arrays[load.HEAD] = arrays[load.EMBEDDING].copy()

  rewrite(folder, equal)
  assert 'head' not in load.params(folder)
  rewrite(folder, lambda arrays: arrays.update({load.HEAD: arrays[load.HEAD] + 1}))
  with pytest.raises(ValueError, match='tie_word_embeddings is true'):
    load.params(folder)


def test_files_that_are_missing_cut_short_or_elsewhere_are_refused(folder, tmp_path):
  path = pathlib.Path(folder, load.FILE)
  path.write_bytes(path.read_bytes()[:-1])
  with pytest.raises(ValueError, match='cannot be read'):
    load.params(folder)
  path.unlink()
  with pytest.raises(ValueError, match='holds neither model'):
    load.params(folder)
  (path.parent / load.INDEX).write_text(json.dumps({'weight_map': {'x': '../other'}}))
  with pytest.raises(ValueError, match='outside of the folder'):
    load.params(folder)
  with pytest.raises(ValueError, match='holds no Hugging Face model'):
    load.params(tmp_path)


def test_shards_are_read_as_one_file(folder, tmp_path):
  sharded = tiny_checkpoints.save(tmp_path / 'sharded', 'llama 3', max_shard_size='20KB')
  assert len(list(pathlib.Path(sharded).glob('*.safetensors'))) > 2
  one, other = load.params(folder), load.params(sharded)
  assert jax.tree.structure(one) == jax.tree.structure(other)
  for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(other)):
    np.testing.assert_array_equal(x, y)


def test_the_dtype_is_as_asked_and_each_array_is_put_by_name(folder):
  names = []

  def put(name, array):
    names.append(name)
    return jnp.asarray(array)

  params = load.params(folder, dtype=jnp.bfloat16, put=put)
  assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype('bfloat16')}
  assert len(names) == len(jax.tree.leaves(params))
  assert {'embedding', 'layers.query.kernel', 'norm.scale', 'head'} <= set(names)
  with pytest.raises(ValueError, match=r'dtype must be one of .*, got float16'):
    load.params(folder, dtype=jnp.float16)


def test_loading_takes_the_memory_of_the_model_and_of_one_projection(tmp_path):
  changes = {'num_hidden_layers': 8, 'hidden_size': 128, 'intermediate_size': 256}
  folder = tiny_checkpoints.save(tmp_path / 'model', 'llama 3.2', changes=changes)
  size = pathlib.Path(folder, load.FILE).stat().st_size
  load.params(folder)  # imports
  tracemalloc.start()
  params = load.params(folder, put=lambda name, array: array)
  held, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  largest = max(x.nbytes for x in jax.tree.leaves(params['layers']))
  assert size * 0.95 < held and peak < held + largest


@pytest.mark.parametrize('family', ['llama 3.1', 'smollm2', 'qwen2', 'qwen3', 'gemma'])
def test_what_is_saved_transformers_loads_with_merged_changes(family, tmp_path):
  folder = tiny_checkpoints.save(tmp_path / 'model', family)
  config, params = hf_config.read(folder), load.params(folder)
  adapter = lora.lora(config, rank=2, scale=3.0)
  keys = iter(jax.random.split(jax.random.key(0), 14))
  changes = jax.tree.map(
    lambda x: 0.1 * jax.random.normal(next(keys), x.shape), adapter.init(jax.random.key(1))
  )
  model = decoder.decoder(config)
  tokens, mask = map(jnp.array, tiny_checkpoints.draw(12))
  scaled = adapter.scaled(changes)
  hidden = model.hidden(params, model.embed(params, tokens), mask, lora=scaled)
  expected = np.asarray(model.logits(params, hidden))
  merged = adapter.merge(params, changes)
  saved = save.save(tmp_path / 'saved', config, merged, like=folder, shard_bytes=20_000)
  assert len(list(saved.glob('*.safetensors'))) > 1
  made, report = transformers.AutoModelForCausalLM.from_pretrained(saved, output_loading_info=True)
  assert not report['missing_keys'] and not report['unexpected_keys']
  found = tiny_checkpoints.logits(made, np.asarray(tokens), np.asarray(mask))
  np.testing.assert_allclose(found[mask], expected[mask], rtol=0, atol=1e-4)
  before = np.asarray(logits(config, params, tokens, mask))
  assert np.abs(found - before)[mask].max() > 0.5
  assert hf_config.read(saved) == config
  again = load.params(saved)
  for x, y in zip(jax.tree.leaves(merged), jax.tree.leaves(again), strict=True):
    np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize('family', ['llama 3', 'llama 3.1'])
def test_who_knows_the_older_rotary_fields_alone_reads_the_same_model(family, tmp_path):
  folder = tiny_checkpoints.save(tmp_path / 'model', family)
  config = hf_config.read(folder)
  saved = save.save(tmp_path / 'saved', config, load.params(folder), like=folder)
  both = json.loads((saved / 'config.json').read_text())
  older = {name: value for name, value in both.items() if name != 'rope_parameters'}
  assert older['rope_theta'] == 500_000.0 and ('rope_scaling' in older) == (family == 'llama 3.1')
  for values in (both, older):
    assert hf_config.of_json(values) == config
    read = transformers.AutoConfig.for_model(**values)
    assert read.rope_parameters == both['rope_parameters']


def test_what_goes_with_a_model_is_taken_over(folder, tmp_path):
  pathlib.Path(folder, 'tokenizer.json').write_text('{}')
  config, params = hf_config.read(folder), load.params(folder, dtype=jnp.bfloat16)
  saved = save.save(tmp_path / 'saved', config, params, like=folder)
  about = json.loads((saved / 'config.json').read_text())
  assert (about['eos_token_id'], about['dtype']) == (2, 'bfloat16')
  assert (saved / 'tokenizer.json').exists() and (saved / load.FILE).exists()
  made = transformers.AutoModelForCausalLM.from_pretrained(saved)
  assert str(made.dtype) == 'torch.bfloat16'


def test_a_folder_of_something_else_is_not_replaced(folder, tmp_path):
  config, place = hf_config.read(folder), tmp_path / 'runs'
  place.mkdir()
  (place / 'results.csv').write_text('precious')
  with pytest.raises(ValueError, match=r'holds results\.csv, which would be lost'):
    save.save(place, config, load.params(folder))
  assert [path.name for path in place.iterdir()] == ['results.csv']


def test_parameters_of_another_form_are_not_saved(folder, tmp_path):
  config, params = hf_config.read(folder), load.params(folder)
  lacking = {name: x for name, x in params.items() if name != 'head'}
  mixed = {**params, 'head': params['head'].astype(jnp.bfloat16)}
  wide = {**params, 'head': jnp.ones((128, 33))}
  for wrong, message in (
    (lacking, 'params lack head'),
    (mixed, r"all of one dtype of .*\['bfloat16', 'float32'\]"),
    (wide, r'head makes lm_head.weight \(128, 33\)'),
  ):
    with pytest.raises(ValueError, match=message):
      save.save(tmp_path / 'saved', config, wrong)
  assert not (tmp_path / 'saved').exists()


def test_a_fingerprint_is_of_weights_tokenizer_and_template(tmp_path):
  for name, content in (('model.safetensors', 'a'), ('tokenizer.json', '{}'), ('README.md', 'x')):
    (tmp_path / name).write_text(content)
  before = load.fingerprint(tmp_path)
  (tmp_path / 'README.md').write_text('y')
  assert load.fingerprint(tmp_path) == before
  (tmp_path / 'chat_template.jinja').write_text('{{ messages }}')
  with_template = load.fingerprint(tmp_path)
  (tmp_path / 'model.safetensors').write_text('b')
  assert len({before, with_template, load.fingerprint(tmp_path)}) == 3
