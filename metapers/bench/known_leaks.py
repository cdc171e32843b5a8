"""Leaks of a population are looked for once: in a process, and in a workdir that is resumed."""

import hashlib
import os
import pathlib
from typing import NamedTuple

import jax

from metapers.core import fields, files, programs
from metapers.core.population import SPLITS, Population
from metapers.core.types import Callable
from metapers.evaluation import leaks
from metapers.evaluation.leaks import Leak, Leaks

_FOUND: dict[str, Leaks] = {}  # by this process


class Known(NamedTuple):
  """What is known of a population.

  key: hash of all that was looked at. found: as `leaks.find_leaks` returns it.
  """

  key: str
  found: Leaks

  @property
  def lines(self) -> list[str]:
    """What was found, a line each."""
    return [leak.message for of_kind in self.found.values() for leak in of_kind]


def find(
  population: Population, workdir: str | os.PathLike | None, begins: Callable[[], None]
) -> Known:
  """Returns the leaks of a population, looked for if this was not done yet.

  Args:
    population: of any kind.
    workdir: that `keep` may have kept them in; None for none.
    begins: called before they are looked for.
  """
  key = fingerprint(population)
  path = None if workdir is None else file_of(workdir, key)
  if key not in _FOUND and path is not None and path.exists():
    stored = files.read_json(path)
    fields.check(path, stored, {'sha256': str, 'leaks': dict[str, list[tuple[str, bool]]]})
    if stored['sha256'] == key:
      found = stored['leaks'].items()
      _FOUND[key] = {kind: [Leak(kind, *each) for each in own] for kind, own in found}
  if key not in _FOUND:
    begins()
    _FOUND[key] = leaks.find_leaks(population)
  return Known(key, _FOUND[key])


def keep(workdir: str | os.PathLike, name: str, known: Known) -> None:
  """Keeps what was found in a workdir, under the name of the population."""
  found = {
    kind: [[leak.message, leak.is_certain] for leak in own] for kind, own in known.found.items()
  }
  content = {'population': name, 'sha256': known.key, 'leaks': found}
  files.write_json(file_of(workdir, known.key), content)


def file_of(workdir: str | os.PathLike, key: str) -> pathlib.Path:
  """Returns where is kept what was found in the population of a hash."""
  return pathlib.Path(workdir) / 'leaks' / f'{key[:16]}.json'


def fingerprint(population: Population) -> str:
  """Returns a hash of data, ids and texts of a population, of its draws, and of the checks."""
  items, facts = population.items, population.simulation
  shown = [leaks.VERSION, population.spec, population.content_hash]
  if items is not None:
    shown += [items.user_ids(population.arrays, split).tolist() for split in SPLITS]
    shown += [None if each is None else each.tolist() for each in (items.contexts, items.texts)]
  if facts is not None and facts.prompt_texts is not None:
    shown += [facts.prompt_texts.tolist()]
  digest = hashlib.sha256(programs.text(str(shown)))
  for leaf in jax.tree.leaves((population.arrays, population.scaling)):
    digest.update(programs.content(leaf))
  given = population.arrays, jax.random.key(0)
  for split in SPLITS:

    def draw(arrays, key, split=split):
      return population.sample_episode(arrays, key, split)

    digest.update(programs.program(draw, *given))
  return digest.hexdigest()
