"""A policy with its parameters: what it writes for somebody, and its files.

    trained.save(folder, made, about)                     # made = Trained(policy, params)
    made = trained.load(folder, model, base, model_files=load.fingerprint(model_folder))
    found = trained.replies(model, made, state, prompts, generator, key)

`folder` holds policy.json and params.npz: all that was trained, without a base that stayed as it
was.
"""

import inspect
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metapers.core import array_files, fields, files
from metapers.core.types import Params, PRNGKey
from metapers.io import leaves
from metapers.llm import p_dpo, prompting
from metapers.llm.decoder import Decoder
from metapers.llm.generate import Generated, Generator
from metapers.llm.p_dpo import Policy
from metapers.llm.prompting import Inputs
from metapers.llm.user_model import UserState

FORMAT, VERSION = 'metapers-policy', 1
HEADER, PARAMETERS = 'policy.json', 'params.npz'
FIELDS = {
  'options': dict,
  'users': dict[str, str],
  'text_length': fields.Size,
  'is_chat': bool,
  'model_files': str,
  'sha256': str,
}


class Trained(NamedTuple):
  """A policy, and what came of its training."""

  policy: Policy
  params: Params


def untrained(model: Decoder, base: Params) -> Trained:
  """Returns the base itself as a policy of nobody."""
  policy = p_dpo.p_dpo(model, base, num_users=1, kind='uniform', num_tokens=0, lora_rank=0)
  soft = policy.users.init(jax.random.key(0), base['embedding'])
  return Trained(policy, {'base': base, 'users': soft})  # `init` would widen a base to train it


class About(NamedTuple):
  """What a policy goes with.

  options: of `p_dpo.p_dpo`, JSON values. users: name of each known one -> what they say of
  themselves, by row. text_length: most tokens of that; 0 where nobody is asked. is_chat: prompts go
  through the chat template. model_files: `load.fingerprint` of the base.
  """

  options: Mapping[str, Any]
  users: Mapping[str, str]
  text_length: int
  is_chat: bool
  model_files: str

  @property
  def tells_users_apart(self) -> bool:
    """Whether known users have answers of their own."""
    return self.options.get('kind') != 'uniform'

  @property
  def fits_new_users(self) -> bool:
    """Whether comparisons of a new user change their answers."""
    kind = self.options.get('kind', 'individual')
    return kind == 'cluster' or (kind == 'individual' and self.options.get('inner_steps', 1) > 0)


def replies(
  model: Decoder,
  made: Trained,
  state: UserState,
  prompts: Sequence[Sequence[int]],
  generator: Generator,
  key: PRNGKey,
  *,
  length: int | None = None,
) -> Generated:
  """Returns what a policy writes for one user.

  Args:
    model: decoder.
    made: the policy.
    state: of the user.
    prompts: tokens of each.
    generator: of the model.
    key: of what is drawn.
    length: to which prompts are padded, each compiling once; that of the longest by default.
  """
  base, adapter = made.params['base'], made.policy.adapter
  tokens, mask = map(jnp.asarray, prompting.padded(prompts, side='left', length=length))
  inputs = p_dpo.prompted(model, base, Inputs(model.embed(base, tokens), mask), state)
  changes = adapter.scaled(made.params['lora']) if adapter else None
  return generator(base, inputs, key, lora=changes)


def save(folder: str | os.PathLike, made: Trained, about: About) -> pathlib.Path:
  """Writes a policy, and returns the folder.

  Args:
    folder: where to; another policy that is there is replaced when all is written.
    made: the policy, prepared for new users.
    about: what it goes with.

  Raises:
    ValueError: for a folder that holds something else, or a policy of other users than it says.
  """
  folder = pathlib.Path(folder)
  files.check_replaceable(folder, (HEADER, PARAMETERS))
  wide = jax.tree.map(lambda x: np.asarray(x, _stored(x.dtype)), _tuned(made.policy, made.params))
  arrays = array_files.packed(leaves.named(wide))
  header = {'format': FORMAT, 'version': VERSION, **about._asdict()}
  header = {**header, 'users': dict(about.users), 'sha256': files.sha256(arrays)}
  fields.check(folder / HEADER, header, FIELDS)
  with files.writing_folder(folder) as place:
    (place / PARAMETERS).write_bytes(arrays)
    files.write_json(place / HEADER, header)
  return folder


def read_about(folder: str | os.PathLike) -> About:
  """Returns what a policy goes with.

  Raises:
    ValueError: for a folder without a policy, or of another version.
  """
  return _about(_header(folder))


def load(folder: str | os.PathLike, model: Decoder, base: Params, *, model_files: str) -> Trained:
  """Returns a policy that `save` wrote.

  Args:
    folder: of the policy.
    model: decoder.
    base: its parameters.
    model_files: `load.fingerprint` of the base.

  Raises:
    ValueError: for a folder without a policy, of another base, or with damaged arrays.
  """
  header, path = _header(folder), pathlib.Path(folder) / PARAMETERS
  about = _about(header)
  unknown = sorted(set(about.options) - set(inspect.signature(p_dpo.p_dpo).parameters))
  if unknown:
    raise ValueError(f'{folder} has options {", ".join(unknown)}: other code wrote it')
  if about.model_files != model_files:
    raise ValueError(f'{folder} was tuned on another base than this model; give that one')
  policy = p_dpo.p_dpo(model, base, num_users=len(about.users), **about.options)
  content = files.read_bytes(path)
  if files.sha256(content) != header['sha256']:
    raise ValueError(f'{path} is not the file that {HEADER} describes; restore it from a copy')
  found = array_files.unpacked(path, content)
  shapes = _tuned(policy, jax.eval_shape(policy.learner.init, jax.random.key(0)))
  stored = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, _stored(x.dtype)), shapes)
  tuned = leaves.rebuild(found, stored)
  tuned = jax.tree.map(lambda x, like: jnp.asarray(x, like.dtype), tuned, shapes)
  return Trained(policy, {'base': base, **tuned})


def _stored(dtype: np.dtype) -> np.dtype:
  """Returns what arrays of a dtype are stored as: files of NumPy have no bfloat16."""
  return np.dtype(np.float32) if dtype == jnp.bfloat16 else np.dtype(dtype)


def _tuned(policy: Policy, params: Params) -> Params:
  return {name: each for name, each in params.items() if name not in policy.frozen}


def _header(folder: str | os.PathLike) -> dict[str, Any]:
  return files.read_manifest(pathlib.Path(folder) / HEADER, FORMAT, VERSION, FIELDS)[0]


def _about(header: Mapping[str, Any]) -> About:
  return About(**{name: header[name] for name in About._fields})
