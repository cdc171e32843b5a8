"""Notebooks run from top to bottom, show their figures, and agree with their percent scripts."""

import json
import pathlib

import jupytext
import nbclient
import pytest

NOTEBOOKS = sorted((pathlib.Path(__file__).parents[1] / 'notebooks').glob('*.ipynb'))
FIGURES = ('image/svg+xml', 'image/png')
LARGEST = 100_000  # bytes of a committed image that is not a vector


def sources(notebook):
  return [(cell.cell_type, cell.source.strip()) for cell in notebook.cells]


def figures(notebook):
  """Every image that the cells of a notebook show, by its type."""
  return [
    (kind, output['data'][kind])
    for cell in notebook.cells
    for output in cell.get('outputs', [])
    for kind in FIGURES
    if kind in output.get('data', {})
  ]


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_pair_agrees(path):
  assert sources(jupytext.read(path)) == sources(jupytext.read(path.with_suffix('.py')))


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_figures_are_committed_and_small(path):
  shown = figures(jupytext.read(path))
  assert shown
  for kind, image in shown:
    assert kind == 'image/svg+xml' or len(image) <= LARGEST
  assert not [
    cell for cell in jupytext.read(path).cells if '<Figure size' in json.dumps(cell.get('outputs'))
  ]


@pytest.mark.slow
@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_and_shows_as_many_figures(path):
  notebook = jupytext.read(path)
  committed = len(figures(notebook))
  nbclient.NotebookClient(notebook, timeout=600, kernel_name='python3').execute()
  assert len(figures(notebook)) == committed > 0
