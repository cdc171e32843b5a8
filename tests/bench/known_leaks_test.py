"""Leaks are looked for once in a process and in a workdir, and again where anything differs."""

import json

import numpy as np
import pytest
from own_population import dinners

from metapers.bench import known_leaks
from metapers.core import task
from metapers.evaluation import leaks
from metapers.evaluation.leaks import Leak
from metapers.populations import toy

FOUND = {'users': [], 'cues': [Leak('cues', 'marked'), Leak('cues', 'like it', False)]}


@pytest.fixture
def looked(monkeypatch):
  """Populations that were looked at, by a process that has looked at none before."""
  seen = []

  def find_leaks(population):
    seen.append(population.source)
    return FOUND

  monkeypatch.setattr(known_leaks, '_FOUND', {})
  monkeypatch.setattr(leaks, 'find_leaks', find_leaks)
  return seen


def find(population, workdir=None):
  return known_leaks.find(population, workdir, lambda: None)


def test_a_population_is_looked_at_once_in_a_process(looked):
  first = find(toy.two_types())
  assert find(toy.two_types()) == first == (first.key, FOUND)
  assert looked == ['synthetic users of two types']
  assert first.lines == ['marked', 'like it']


def test_another_process_reads_what_a_workdir_keeps(looked, tmp_path, monkeypatch):
  known_leaks.keep(tmp_path, 'default', find(toy.two_types()))
  [path] = (tmp_path / 'leaks').iterdir()
  assert {'population': 'default'}.items() <= json.loads(path.read_text()).items()
  monkeypatch.setattr(known_leaks, '_FOUND', {})
  assert find(toy.two_types(), tmp_path).found == FOUND
  assert len(looked) == 1
  find(dinners(), tmp_path)
  monkeypatch.setattr(leaks, 'VERSION', leaks.VERSION + 1)
  find(toy.two_types(), tmp_path)
  assert len(looked) == 3


def other_draws(population):
  def sample_episode(arrays, key, split):
    episode, truth = population.sample_episode(arrays, key, split)
    return episode._replace(query=task.drop_masked(episode.support)), truth

  return population._replace(sample_episode=sample_episode)


def other_texts(population):
  texts = np.full(120, 'Why?', object)
  return population._replace(simulation=population.simulation._replace(prompt_texts=texts))


@pytest.mark.parametrize(
  'change',
  [
    lambda _: dinners(seed=1),
    lambda _: dinners(shared_nights=10),
    lambda same: same._replace(content_hash='other'),
    other_draws,
    other_texts,
  ],
)
def test_whatever_is_looked_at_makes_another_population(change):
  given = dinners()
  assert known_leaks.fingerprint(dinners()) == known_leaks.fingerprint(given)
  assert known_leaks.fingerprint(change(given)) != known_leaks.fingerprint(given)
