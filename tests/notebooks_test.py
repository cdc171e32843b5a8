"""Notebooks run from top to bottom, hold no outputs, and agree with their percent scripts."""

import pathlib

import jupytext
import nbclient
import pytest

NOTEBOOKS = sorted((pathlib.Path(__file__).parents[1] / 'notebooks').glob('*.ipynb'))


def sources(notebook):
  return [(cell.cell_type, cell.source.strip()) for cell in notebook.cells]


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_pair_agrees(path):
  assert sources(jupytext.read(path)) == sources(jupytext.read(path.with_suffix('.py')))


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_no_outputs_are_committed(path):
  for cell in jupytext.read(path).cells:
    assert not cell.get('outputs')
    assert cell.get('execution_count') is None


@pytest.mark.slow
@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(path):
  nbclient.NotebookClient(jupytext.read(path), timeout=600, kernel_name='python3').execute()
