"""Files of episodes for learners of any framework: what these may see, and apart from it the truth.

A folder holds `manifest.json`; for each condition `CONDITION/test.npz`, which is evaluated, and
`CONDITION/validation.npz`; `train.npz`, users to learn from; and the folder `truth`: all else that
evaluation needs, which may be kept elsewhere. The manifest has sha256, shapes and dtypes of all
files. Reading one runs no code that it names.
"""

import contextlib
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import pydantic
from pydantic import Field

from metapers.bench import resampling
from metapers.core import array_files, fields, files, task
from metapers.core.task import Candidates, Choices, Task, Truth
from metapers.core.types import Array, Int, PyTree

FORMAT, VERSION = 'metapers-episodes', 2
MANIFEST, TRUTH = 'manifest.json', 'truth'


class Entry(pydantic.BaseModel):
  """What the manifest says of a file."""

  sha256: str
  arrays: dict[str, fields.Stored]


class ConditionEntry(pydantic.BaseModel):
  """What the manifest says of a condition; more may stand there for people."""

  name: str
  title: str
  labels: dict[str, str | float | None]
  shots: Annotated[list[fields.Size], Field(min_length=1)]
  rival: fields.Size | None
  num_resamples: Annotated[int, Field(ge=1, le=10**6)]
  resampled: resampling.Kind = ''  # older ones lack it
  users: str = ''  # likewise
  references: list[str]


FIELDS = {
  'protocol': str, 'source': str, 'licence': str, 'identity': dict,
  'conditions': list[ConditionEntry], 'files': dict[str, Entry],
}  # fmt: skip
# Dimension letters of `core.types`, and what each array holds.
ARRAYS = {
  'user': ('T', 'number of the user in this file'),
  'known_user': ('T', 'row among the users trained on; their number for a new user'),
  'fold': (
    'T',
    'fold in which the user is evaluated: learn from train users of the same fold only',
  ),
  'context': ('T C', 'what a learner is given besides'),
  'shots': ('L', 'numbers of first real support comparisons to predict after'),
  'support_features': ('T N K D', 'what was compared, 0 where masked'),
  'support_shown': ('T N K', 'candidate is real'),
  'support_choice': ('T N', 'index into K of the preferred candidate'),
  'support_mask': ('T N', 'comparison is real'),
  'support_weight': ('T N', 'how often the comparison counts, 0 where masked'),
  'query_features': ('T N K D', 'what is to be predicted, 0 where masked'),
  'query_shown': ('T N K', 'candidate is real'),
  'query_choice': ('T N', 'index into K of the preferred candidate; of a test in the truth only'),
  'query_mask': ('T N', 'comparison is real'),
  'query_weight': ('T N', 'how often the comparison counts; of a test in the truth only'),
  'slate_features': ('T M R D', 'responses to choose the best of, 0 where masked'),
  'slate_shown': ('T M R', 'response is real'),
  'weights': ('T B', 'of the reward models'),
  'support_rewards': ('T N E B', 'of what bears on the support, the K shown first'),
  'support_reward_mask': ('T N E', 'reward is there'),
  'support_prompts': ('T N', 'ids'),
  'query_rewards': ('T N E B', 'of what bears on the query, the K shown first'),
  'query_reward_mask': ('T N E', 'reward is there'),
  'query_prompts': ('T N', 'ids'),
  'query_resampled': ('T N Z', 'numbers of the items, or of their context, that are drawn anew'),
  'slate_rewards': ('T M R B', 'of the responses of the slates'),
  'slate_prompts': ('T M', 'ids'),
  'slate_models': ('T M R', 'index of the model that wrote a response'),
  'log_probs': ('L T N K', 'what a reference predicts, in nats'),
  'slate_scores': ('L T M R', 'utilities of a reference'),
}
PARTS = ('features', 'shown', 'choice', 'mask', 'weight')  # of support and query
LABELS = ('query_choice', 'query_weight')  # of a test in the truth only
# Fields of `Truth` that only evaluation sees, by the name of their array.
HIDDEN = {
  'weights': 'weights', 'support_rewards': 'support_rewards',
  'support_reward_mask': 'support_mask', 'support_prompts': 'support_prompts',
  'query_rewards': 'query_rewards', 'query_reward_mask': 'query_mask',
  'query_prompts': 'query_prompts', 'slate_rewards': 'slate_rewards',
  'slate_prompts': 'slate_prompts', 'slate_models': 'slate_models',
}  # fmt: skip
Arrays = Mapping[str, np.ndarray]


class Draft(NamedTuple):
  """A folder being written.

  folder: its place for now. about: of the manifest, to be filled. files: their entries so far.
  """

  folder: pathlib.Path
  about: dict[str, Any]
  files: dict[str, Any]
  is_compressed: bool

  def add(self, name: str, arrays: Arrays) -> None:
    """Writes `name`, an npz file; the same arrays give the same bytes.

    Raises:
      ValueError: for a name that leads out of the folder.
    """
    files.require_relative(name, self.folder)
    content = array_files.packed(arrays, is_compressed=self.is_compressed)
    files.write_atomically(self.folder / name, content)
    self.files[name] = {
      'sha256': files.sha256(content),
      'arrays': {key: description(key, np.asarray(array)) for key, array in arrays.items()},
    }


@contextlib.contextmanager
def writing_episodes(folder: str | os.PathLike, *, is_compressed: bool = False) -> Iterator[Draft]:
  """Opens a new folder of episodes to write; it gets its name when the block ends well.

  Args:
    folder: must not exist.
    is_compressed: take more time and less space. The bytes then depend on the version of zlib.

  Raises:
    ValueError: for a folder that exists.
  """
  folder = pathlib.Path(folder)
  if folder.exists():
    raise ValueError(f'{folder} exists; give a name that is free')
  with files.writing_folder(folder) as place:
    draft = Draft(place, {}, {}, is_compressed)
    yield draft
    manifest = {'format': FORMAT, 'version': VERSION, **draft.about, 'files': draft.files}
    files.write_json(place / MANIFEST, manifest)


def description(name: str, array: np.ndarray) -> dict[str, Any]:
  """Returns the manifest's entry of an array; `REFERENCE.log_probs` is described as `log_probs`."""
  letters, meaning = ARRAYS[name.rpartition('.')[-1]]
  kind = {'shape': list(array.shape), 'dtype': str(array.dtype)}
  return {**kind, 'dimensions': letters, 'meaning': meaning}


def read_episodes_manifest(folder: str | os.PathLike) -> dict[str, Any]:
  """Returns the manifest of a folder of episodes.

  Raises:
    ValueError: for a folder without one, another format or version, a missing field, or a file
      outside of the folder.
  """
  path = pathlib.Path(folder) / MANIFEST
  manifest, _ = files.read_manifest(path, FORMAT, VERSION, FIELDS)
  for name in manifest['files']:
    files.require_relative(name, path)
  return manifest


def load_arrays(
  folder: str | os.PathLike, manifest: Mapping[str, Any], name: str, *, truth: str | None = None
) -> dict[str, np.ndarray]:
  """Returns the arrays of one file, if it is the one that the manifest describes.

  Args:
    folder: of the episodes.
    manifest: of the folder, see `read_episodes_manifest`.
    name: of the file, as in the manifest.
    truth: where the folder `truth` is kept; None looks for it beside the manifest.

  Raises:
    ValueError: for a file that the manifest does not know, that is missing or lies elsewhere, or
      whose sha256 or arrays are others.
  """
  entry = manifest['files'].get(name)
  if entry is None:
    raise ValueError(f'{folder}/{MANIFEST} knows no file {name!r}; export the episodes anew')
  first, _, rest = name.partition('/')
  kept, inner = (truth, rest) if truth and first == TRUTH else (folder, name)
  if first == TRUTH and not pathlib.Path(kept, inner).exists():
    raise ValueError(f'{kept}/{inner} is missing; give --truth=FOLDER, where the truth is kept')
  path = files.within(kept, inner)
  content = files.read_bytes(path)
  found = files.sha256(content)
  if found != entry['sha256']:
    raise ValueError(
      f'{path} is not the file that {MANIFEST} describes (sha256 {found[:12]}, expected '
      f'{entry["sha256"][:12]}); restore it, for other episodes give other numbers'
    )
  return array_files.unpacked(path, content, entry['arrays'])


def fingerprint(folder: str | os.PathLike) -> str:
  """Returns the sha256 of the manifest, and so of all files: two results of one are comparable."""
  return files.sha256(files.read_bytes(pathlib.Path(folder) / MANIFEST))


def visible_arrays(
  tasks: Task, slate: Candidates | None = None, *, has_labels: bool
) -> dict[str, np.ndarray]:
  """Returns what a learner may see of T users.

  Args:
    tasks: the users.
    slate: [T, M, R, D] to pick from, if any.
    has_labels: include what they chose in the query, and how often that counts.

  Raises:
    ValueError: for features or a context that are dicts of arrays.
  """
  require_array('features', tasks.support.candidates.features)
  require_array('context', tasks.context)
  support, query = task.drop_masked(tasks.support), task.drop_masked(tasks.query)
  arrays = {
    'user': np.arange(len(tasks.user), dtype=np.int32),
    'known_user': tasks.user,
    'context': tasks.context,
    **{f'support_{name}': value for name, value in _fields(support).items()},
    **{f'query_{name}': value for name, value in _fields(query).items()},
  }
  if slate is not None:
    slate = task.fill_masked(slate)
    arrays |= {'slate_features': slate.features, 'slate_shown': slate.mask}
  visible = {name for name in arrays if has_labels or name not in LABELS}
  return {name: np.asarray(value) for name, value in arrays.items() if name in visible}


def require_array(what: str, given: PyTree) -> None:
  """Refuses features or contexts that are several arrays, for which the format has no names.

  Raises:
    ValueError: naming those arrays.
  """
  if not hasattr(given, 'shape'):
    names = ', '.join(given) if isinstance(given, Mapping) else type(given).__name__
    raise ValueError(
      f'files of episodes hold {what} that are one array, got several ({names}); export a '
      f'population that joins them into one'
    )


def hidden_arrays(
  tasks: Task, truth: Truth | None, resampled: Int[np.ndarray, 'T N Z'] | None = None
) -> dict[str, np.ndarray]:
  """Returns what only evaluation sees; of real people choices, weights, and what is resampled."""
  query = _fields(task.drop_masked(tasks.query))
  arrays: dict[str, Any] = {name: query[name.removeprefix('query_')] for name in LABELS}
  if resampled is not None:
    arrays['query_resampled'] = resampled
  if truth is not None:
    arrays |= {name: truth._asdict()[field] for name, field in HIDDEN.items()}
  return {name: np.asarray(value) for name, value in arrays.items()}


def rebuild(visible: Arrays, hidden: Arrays) -> tuple[Task, Truth | None]:
  """Returns the episodes of visible and hidden arrays; masked entries are 0.

  Raises:
    ValueError: for arrays that are missing or do not fit each other.
  """
  given = {**visible, **hidden}
  check_arrays(given)
  arrays = {name: jnp.asarray(array) for name, array in given.items()}

  def choices(part: str) -> Choices:
    features, shown, choice, mask, weight = (arrays[f'{part}_{name}'] for name in PARTS)
    return task.choices(Candidates(features, shown), choice, mask, weight)

  tasks = Task(choices('support'), choices('query'), arrays['known_user'], arrays['context'])
  if 'weights' not in arrays:
    return tasks, None
  slate = Candidates(arrays['slate_features'], arrays['slate_shown'])
  return tasks, Truth(slate=slate, **{field: arrays[name] for name, field in HIDDEN.items()})


def check_arrays(arrays: Arrays) -> None:
  """Refuses arrays of which no episodes can be made.

  Raises:
    ValueError: naming an array that is missing, of other dimensions or another dtype than ARRAYS
      says, or a choice of what was not shown.
  """
  parts = [(part, f'{part}_{name}') for part in ('support', 'query') for name in PARTS]
  needed = {name: part for part, name in parts} | dict.fromkeys(('known_user', 'context'), '')
  if 'weights' in arrays:
    hidden = (*HIDDEN, 'slate_features', 'slate_shown')
    needed |= {name: name.partition('_')[0] for name in hidden}
  if missing := sorted(set(needed) - set(arrays)):
    raise ValueError(f'these episodes lack the arrays {", ".join(missing)}; export them anew')
  needed |= {'query_resampled': 'query'} if 'query_resampled' in arrays else {}
  sizes: dict[str, int] = {}
  for name, part in needed.items():
    letters, array = ARRAYS[name][0].split(), arrays[name]
    own = [f'{letter} of the {part}' if letter in 'NE' else letter for letter in letters]
    fits = array.ndim == len(own) and all(
      sizes.setdefault(letter, length) == length for letter, length in zip(own, array.shape)
    )
    if not fits or array.dtype.kind not in _kinds(name):
      raise ValueError(
        f'{name} of these episodes is {array.dtype} {list(array.shape)}; expected '
        f'{ARRAYS[name][0]} of the others, {sizes}: export them anew'
      )
  for part in ('support', 'query'):
    _check_choices(part, *(arrays[f'{part}_{name}'] for name in PARTS[1:]))


def _check_choices(
  part: str, shown: np.ndarray, choice: np.ndarray, mask: np.ndarray, weight: np.ndarray
) -> None:
  picked = (shown & (np.arange(shown.shape[-1]) == choice[..., None])).any(-1)
  wrong = np.argwhere(mask & ~(picked & (weight >= 0) & np.isfinite(weight)))
  if wrong.size:
    at = tuple(wrong[0].tolist())
    raise ValueError(
      f'comparison {list(at)} of the {part} chose {choice[at]} with weight {weight[at]}: export '
      'the episodes anew'
    )


def _kinds(name: str) -> str:
  if name.endswith(('shown', 'mask')):
    return 'b'
  whole = 'choice', 'prompts', 'user', 'models', 'resampled'
  return 'iu' if name.endswith(whole) else 'f'


def _fields(choices: Choices) -> dict[str, Array]:
  return {
    'features': choices.candidates.features,
    'shown': choices.candidates.mask,
    'choice': choices.choice,
    'mask': choices.mask,
    'weight': choices.weight,
  }
