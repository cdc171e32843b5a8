"""Features of new texts, made as those of a folder of people's tables were."""

import functools
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from metapers.core import array_files, fields, files
from metapers.core.types import Float
from metapers.data import extraction, people_tables, reward_models, texts
from metapers.data.extraction import Extraction, Score
from metapers.data.people_tables import FEATURES, MADE_BY
from metapers.data.reward_models import Options, RewardModel
from metapers.data.sources import Source
from metapers.data.texts import Texts

KINDS = {
  'encoder': dict | None,
  'syntax': bool,
  'options': dict,
  'versions': dict[str, str],
  'num_features': int,
}
ANEW = (
  'extract them anew: python -m experiments.extract '
  '--config=experiments/configs/extract_people.py --config.source.path=FOLDER'
)


def features_of(
  folder: str | os.PathLike,
  given: Sequence[Any],
  *,
  prompts: Sequence[Any] | None = None,
  encoder: str | os.PathLike = '',
) -> Float[np.ndarray, 'N D']:
  """Returns features of N texts, by the encoder and syntax that FOLDER/features.npy was made by.

  They are raw, as a `Personalizer` that was trained on that folder takes them. The encoder is kept
  loaded for the next call.

  Args:
    folder: of the tables.
    given: the texts.
    prompts: what each answers, where the encoder read the contexts of items, too.
    encoder: where the encoder lies now, if its folder has moved.

  Raises:
    ValueError: for features that were not made by `experiments.extract`, another version of what
      made them, or a text or prompt that is missing.
  """
  folder = pathlib.Path(folder)
  spec = spec_of(folder, encoder)
  read = _texts_of(given, prompts, needs_prompts=_reads_prompts(spec))
  made = []
  for name, score in _scorers(json.dumps(spec)):
    found = score(read.prompts.tolist(), read.responses[:, 0].tolist())
    check_version(name, found.version, spec['versions'], folder)
    assert found.features is not None
    made.append(found.features.astype(np.float16))  # as in the file
  return np.concatenate(made, -1).astype(np.float32)


def spec_of(folder: pathlib.Path, encoder: str | os.PathLike = '') -> dict[str, Any]:
  """Returns what a folder's features were made by, as JSON values.

  Raises:
    ValueError: where no file says it, or an encoder is given that they are not of.
  """
  path, about = folder / FEATURES, folder / people_tables.ABOUT
  if not path.is_file() or not about.is_file():
    raise ValueError(
      f'{folder} holds no {FEATURES} with {people_tables.ABOUT} beside it, which says what made '
      f'it: {ANEW}'
    )
  content = files.read_json(about)
  if MADE_BY not in content:
    raise ValueError(f'{about} does not say by what {FEATURES} was made: remove both, and {ANEW}')
  spec = content[MADE_BY]
  fields.check(about, content, {MADE_BY: dict})
  fields.check(f'{about}: {MADE_BY}', spec, KINDS)
  if encoder and not spec['encoder']:
    raise ValueError(f'{path} holds syntactic features alone, and encoder={encoder} makes none')
  if encoder:
    spec = spec | {'encoder': spec['encoder'] | {'model': str(encoder)}}
  num_columns = array_files.read_npy(path).shape[-1]
  if num_columns != spec['num_features']:
    raise ValueError(f'{path} has {num_columns} columns, not those that {about} names: {ANEW}')
  return spec


def check_version(name: str, version: str, recorded: dict[str, str], folder: pathlib.Path) -> None:
  """Refuses another version than features were made by.

  Raises:
    ValueError: naming both.
  """
  if version != recorded.get(name):
    raise ValueError(
      f'{name} is {version}, and the features of {folder} were made by {recorded.get(name)}: give '
      f'the folder of that encoder by encoder=, install that version, or {ANEW}'
    )


@functools.lru_cache(maxsize=2)
def _scorers(spec: str) -> list[tuple[str, Score]]:
  """Returns what makes the features, in the order of its columns, by name."""
  made = json.loads(spec)
  extraction.require_packages(
    [made['encoder']] if made['encoder'] else [], [], syntax=made['syntax']
  )
  models = []
  if made['encoder']:
    given = made['encoder'] | {'ignored': tuple(made['encoder']['ignored'])}
    model = RewardModel(**given)
    if not os.path.isdir(model.model):  # else its commit, which a branch may have left
      model = model._replace(revision=made['versions'][model.name])
    models.append(reward_models.checked_model(model))
  nothing = Source(_texts_of(['-'], ['-'], needs_prompts=True), {}, '', '')
  wanted = Extraction(nothing, models, syntax=made['syntax'], options=Options(**made['options']))
  names = [model.name for model in models] + ([extraction.SYNTAX] if made['syntax'] else [])
  return [
    (name, extraction.scorers_of(wanted, name, ['cpu'], lambda line: None)[0]) for name in names
  ]


def _reads_prompts(spec: dict[str, Any]) -> bool:
  return bool(spec['encoder']) and spec['encoder']['template'] != 'plain'


def _texts_of(given: Sequence[Any], prompts: Sequence[Any] | None, *, needs_prompts: bool) -> Texts:
  """Returns texts as an extraction reads them.

  Raises:
    ValueError: for one that is empty or no text, or prompts that are missing.
  """
  if isinstance(given, str) or not len(given):
    raise ValueError(f'give a list of texts, one at least; got {given!r:.60}')
  if needs_prompts and prompts is None:
    raise ValueError('the encoder of these features read prompts, too: give prompts=, one a text')
  if prompts is not None and (isinstance(prompts, str) or len(prompts) != len(given)):
    raise ValueError(f'give as many prompts as texts, {len(given)}; got {prompts!r:.60}')
  shown = texts.strings(np.array([*given, None], object)[:-1])
  asked = [''] * len(given) if prompts is None else prompts
  empty = [number for number, text in enumerate(shown) if not text.strip()]
  if empty:
    raise ValueError(f'texts {empty[:5]} are empty, and have no features')
  return Texts(
    prompts=texts.strings(np.array([*asked, None], object)[:-1], 'prompt'),
    prompt_ids=np.arange(len(shown)).astype(object),
    subset=np.full(len(shown), ''),
    responses=shown[:, None],
    response_model=np.zeros((len(shown), 1), int),
    response_models=('item',),
    prompt_split=np.zeros(len(shown), int),
  )
