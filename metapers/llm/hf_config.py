"""The config.json of a Hugging Face folder as a decoder's configuration, and back.

What the decoder does not compute is refused, each such field by its name: a model that is almost
the published one answers almost as well, and nobody notices.
"""

import os
import pathlib
import types
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from metapers.core import fields, files
from metapers.llm import rotary
from metapers.llm.layers import Config

FILE = 'config.json'
FORM = 'Hugging Face model'
GELU = 'gelu_pytorch_tanh'
# Gemma's first files say gelu, and mean its approximation by tanh, as transformers reads them.
HIDDEN_ACTS = {'silu': ('silu',), 'gelu_tanh': (GELU, 'gelu')}

Count = Annotated[int, Field(ge=1, lt=2**31)]
CountOrNull = Annotated[int | None, Field(ge=1, lt=2**31)]
Positive = Annotated[float, Field(gt=0, lt=1e12)]
KINDS = {
  'model_type': str,
  'vocab_size': Count,
  'hidden_size': Count,
  'intermediate_size': Count,
  'num_hidden_layers': Count,
  'num_attention_heads': Count,
  'rms_norm_eps': Positive,
}
OPTIONAL = {
  'num_key_value_heads': CountOrNull,
  'head_dim': CountOrNull,
  'tie_word_embeddings': bool,
  'max_position_embeddings': Count,
}
# Fields of these values change nothing; of any other they are not computed. These are what the
# families' code in transformers reads besides the above. Unknown fields are let pass: published
# files hold many that nobody reads, of training and of other programs.
NEUTRAL: dict[str, tuple[Any, ...]] = {
  'hidden_activation': (None, GELU),  # Gemma's second name of hidden_act
  'use_bidirectional_attention': (False, None),
  'is_causal': (True,),
  'per_layer_config': (None, {}),
  'attention_bias': (False, None),
  'mlp_bias': (False, None),
  'rope_interleaved': (False, None),
  'partial_rotary_factor': (1, None),
  'quantization_config': (None,),
}
# Only Llama's defaults follow from other fields; others have those of their largest model.
HEADS = {'num_key_value_heads': Count}
HEADS_AND_SIZE = {**HEADS, 'head_dim': Count}


class Family(NamedTuple):
  """What tells models of one model_type from Llama's.

  form: fields of the decoder's configuration. needed: fields that must be given. is_tied: heads are
  the embeddings where the file does not say. has_window: attention slides where it does not say.
  """

  form: Mapping[str, Any] = types.MappingProxyType({})
  needed: Mapping[str, Any] = types.MappingProxyType({})
  is_tied: bool = False
  has_window: bool = False


# Of equal forms the first is written.
FAMILIES = {
  'llama': Family(),
  'mistral': Family(needed=HEADS, has_window=True),
  'qwen2': Family({'has_bias': True}, HEADS),
  'qwen3': Family({'has_head_norm': True}, HEADS_AND_SIZE),
  'gemma': Family(
    {'activation': 'gelu_tanh', 'norm_offset': 1, 'scales_embeddings': True},
    HEADS_AND_SIZE,
    is_tied=True,
  ),
}
ORIGINAL_LENGTH = 'original_max_position_embeddings'
STRETCH = {
  'factor': Positive,
  'low_freq_factor': Positive,
  'high_freq_factor': Positive,
  ORIGINAL_LENGTH: Count,
}


def read(folder: str | os.PathLike) -> Config:
  """Returns the decoder's configuration of a Hugging Face folder.

  Raises:
    ValueError: for a file that is missing or damaged, another architecture, or settings that the
      decoder does not compute, each of which is named.
  """
  path = pathlib.Path(folder, FILE)
  return of_json(files.read_json(path, FORM), path)


def of_json(values: Mapping[str, Any], source: str | os.PathLike = FILE) -> Config:
  """Returns the decoder's configuration that the fields of a config.json describe.

  Args:
    values: by name, with the rotary embedding's settings in the form of transformers 4 or 5.
    source: where they are from, for messages.

  Raises:
    ValueError: as `read`.
  """
  fields.check(source, values, {'model_type': str})
  _check_family(values, source)
  family = FAMILIES[values['model_type']]
  given = {name: kind for name, kind in OPTIONAL.items() if name in values}
  fields.check(source, values, KINDS | given | dict(family.needed))
  rope = _rope_settings(values)
  neutral = {**NEUTRAL, 'hidden_act': HIDDEN_ACTS[family.form.get('activation', 'silu')]}
  wrong = [*_not_neutral(values, neutral), *_windows(values, family), *_unknown_rope(rope)]
  wrong += _second_length(values, rope)
  if wrong:
    raise ValueError(f'{source} asks for what is not supported: {", ".join(wrong)}')
  num_heads, width = values['num_attention_heads'], values['hidden_size']
  if values.get('head_dim') is None and width % num_heads:
    raise ValueError(f'{source} lacks head_dim, which {num_heads} heads of width {width} need')
  return Config(
    vocab_size=values['vocab_size'],
    width=width,
    hidden=values['intermediate_size'],
    num_layers=values['num_hidden_layers'],
    num_heads=num_heads,
    num_key_heads=values.get('num_key_value_heads') or num_heads,
    head_size=values.get('head_dim') or width // num_heads,
    norm_epsilon=float(values['rms_norm_eps']),
    rope=_rope(rope, source),
    is_tied=values.get('tie_word_embeddings', family.is_tied),
    max_positions=values.get('max_position_embeddings', 2048),
    **family.form,
  )


def to_json(config: Config, dtype: str) -> dict[str, Any]:
  """Returns the fields of the config.json from which transformers builds the same model.

  Args:
    config: of the decoder.
    dtype: of the weights: 'float32' or 'bfloat16'.

  Raises:
    ValueError: for a form that no family has.
  """
  fields_of_form = sorted({name for family in FAMILIES.values() for name in family.form})
  own = {name: getattr(config, name) for name in fields_of_form}
  usual = {name: Config._field_defaults[name] for name in fields_of_form}
  fitting = (name for name, family in FAMILIES.items() if {**usual, **family.form} == own)
  model_type = next(fitting, None)
  if model_type is None:
    raise ValueError(f'no family has {own}: nothing would load the model')
  return {
    'architectures': [_architecture(model_type)],
    'model_type': model_type,
    'vocab_size': config.vocab_size,
    'hidden_size': config.width,
    'intermediate_size': config.hidden,
    'num_hidden_layers': config.num_layers,
    'num_attention_heads': config.num_heads,
    'num_key_value_heads': config.num_key_heads,
    'head_dim': config.head_size,
    'rms_norm_eps': config.norm_epsilon,
    'rope_parameters': _rope_parameters(config.rope),
    **_older_rope_fields(config.rope),
    'hidden_act': HIDDEN_ACTS[config.activation][0],
    'tie_word_embeddings': config.is_tied,
    'max_position_embeddings': config.max_positions,
    'dtype': dtype,
  }


def _architecture(model_type: str) -> str:
  return f'{model_type.capitalize()}ForCausalLM'


def _check_family(values: Mapping[str, Any], source: str | os.PathLike) -> None:
  model_type, named = values['model_type'], values.get('architectures')
  if model_type not in FAMILIES:
    known = tuple(FAMILIES)
    raise ValueError(f'{source} is of model_type {model_type!r}; those that load are {known}')
  if named is not None and named != [_architecture(model_type)]:
    raise ValueError(f'{source} is of {named}; of its family [{_architecture(model_type)!r}] loads')


def _not_neutral(values: Mapping[str, Any], neutral: Mapping[str, tuple[Any, ...]]) -> list[str]:
  return [
    f'{name} = {values[name]!r:.80}'
    for name, known in neutral.items()
    if name in values and values[name] not in known
  ]


def _windows(values: Mapping[str, Any], family: Family) -> list[str]:
  kinds = dict.fromkeys(values.get('layer_types') or [])
  wrong = [f'layer_types with {x!r:.80}' for x in kinds if x != 'full_attention']
  # Qwen keeps a window in its files that only this switch turns on; Mistral's is always on.
  is_on = values.get('use_sliding_window', family.has_window)
  if is_on and values.get('sliding_window', 4096) is not None:
    wrong.append(f'sliding_window = {values.get("sliding_window", "its default")}')
  return wrong


def _rope_settings(values: Mapping[str, Any]) -> dict[str, Any]:
  """Returns them as transformers 5 writes them: all in one object."""
  scaling = values.get('rope_parameters') or values.get('rope_scaling') or {}
  kind = scaling.get('rope_type', scaling.get('type', 'default'))
  theta = scaling.get('rope_theta', values.get('rope_theta', 10_000.0))
  return {**scaling, 'rope_type': kind, 'rope_theta': theta}


def _unknown_rope(settings: Mapping[str, Any]) -> list[str]:
  known = {'rope_type', 'type', 'rope_theta', *STRETCH}
  wrong = [f'rope {name} = {settings[name]!r:.80}' for name in settings if name not in known]
  if settings['rope_type'] not in ('default', 'llama3'):
    wrong.append(f'rope_type = {settings["rope_type"]!r:.80}')
  return wrong


def _second_length(values: Mapping[str, Any], rope: Mapping[str, Any]) -> list[str]:
  # Which of two lengths counts is another one in transformers 4 and 5.
  given = values.get(ORIGINAL_LENGTH)
  if rope['rope_type'] != 'llama3' or given in (None, rope.get(ORIGINAL_LENGTH)):
    return []
  return [f'{ORIGINAL_LENGTH} = {given!r:.80} beside {rope.get(ORIGINAL_LENGTH)!r:.80} of the rope']


def _rope(settings: Mapping[str, Any], source: str | os.PathLike) -> rotary.Rope:
  fields.check(source, settings, {'rope_theta': Positive})
  theta = float(settings['rope_theta'])
  if settings['rope_type'] == 'default':
    return rotary.Rope(theta)
  fields.check(source, settings, STRETCH)
  factor, low, high = (float(settings[name]) for name in list(STRETCH)[:3])
  if not low < high:
    raise ValueError(f'{source}: low_freq_factor must be below high_freq_factor: {low}, {high}')
  length = settings[ORIGINAL_LENGTH]
  return rotary.Rope(theta, rotary.Stretch(factor, low, high, length))


def _rope_parameters(rope: rotary.Rope) -> dict[str, Any]:
  if rope.stretch is None:
    return {'rope_type': 'default', 'rope_theta': rope.theta}
  return {'rope_type': 'llama3', 'rope_theta': rope.theta, **dict(zip(STRETCH, rope.stretch))}


def _older_rope_fields(rope: rotary.Rope) -> dict[str, Any]:
  """Returns the same in the form of transformers 4, whose readers else take theta to be 10,000."""
  if rope.stretch is None:
    return {'rope_theta': rope.theta}
  stretch = {'rope_type': 'llama3', **dict(zip(STRETCH, rope.stretch))}
  return {'rope_theta': rope.theta, 'rope_scaling': stretch}
