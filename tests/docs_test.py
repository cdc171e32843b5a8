"""Documents say what runs: every command exists, every config loads, no sentence stands twice."""

import ast
import importlib
import pathlib
import re
import shlex
import unicodedata

import pytest

from metapers.bench import report, results
from metapers.learners import LEARNERS
from metapers.testing import contract
from metapers.training.objectives import OBJECTIVES

ROOT = pathlib.Path(__file__).parents[1]
DOCUMENTS = [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))]
IN_WORDS = 60  # characters of a sentence from which it may not be repeated


def commands():
  """Every `experiments.NAME --flag ...` of the documents, on one line or over several."""
  for path in DOCUMENTS:
    text = path.read_text()
    spans = re.findall(r'`(?:python -m )?experiments\.([^`]+)`', text)
    spans += re.findall(r'-m experiments\.(.+)', '\n'.join(re.findall(r'(?s)```\n(.*?)```', text)))
    table = re.findall(r'^\| `([a-z_]+ --[^`]+)`', text, re.M) if path.name == 'README.md' else []
    for span in [*spans, *table]:
      name, *words = shlex.split(span.replace('\n', ' ')) or ['NAME']
      if not name.islower():  # a placeholder
        continue
      yield pytest.param(name, words, id=f'{path.stem}: {name} {" ".join(words)[:60]}')


def flags_of(name):
  tree = ast.parse((ROOT / 'experiments' / f'{name}.py').read_text())
  own = {
    node.args[0].value
    for node in ast.walk(tree)
    if isinstance(node, ast.Call)
    and getattr(node.func, 'attr', '').startswith('DEFINE_')
    and isinstance(node.args[0], ast.Constant)
  }
  imported = {
    alias.name
    for node in ast.walk(tree)
    if isinstance(node, ast.ImportFrom) and node.module == 'experiments'
    for alias in node.names
  }
  return own.union(*(flags_of(other) for other in imported))


@pytest.mark.parametrize(('name', 'words'), list(commands()))
def test_every_command_in_a_document_can_be_given(name, words):
  known = flags_of(name)
  for word in words:
    if not word.startswith('--'):
      continue
    flag, _, value = word.removeprefix('--').partition('=')
    assert flag.split('.')[0] in known, f'experiments.{name} has no flag --{flag}'
    path, _, argument = value.partition(':')
    if flag == 'config' and path.endswith('.py') and 'NAME' not in path:
      assert (ROOT / path).is_file(), path
      if '.py:' not in argument:  # a learner from the reader's own file
        module = importlib.import_module(path.removesuffix('.py').replace('/', '.'))
        module.get_config(argument.removesuffix(']'))


def test_the_readme_is_short_and_shows_its_picture_first():
  lines = DOCUMENTS[0].read_text().splitlines()
  assert len(lines) <= 200
  first = next(line for line in lines if line.startswith(('!', '#')) and not line.startswith('# '))
  assert first.startswith('![')


def test_no_sentence_stands_twice():
  found = {}
  for path in DOCUMENTS:
    prose = re.sub(r'(?s)```.*?```', '', path.read_text())
    prose = '\n'.join(line for line in prose.splitlines() if not line.startswith('|'))
    for sentence in re.split(r'(?<=[.:;])\s+', ' '.join(prose.split())):
      if len(sentence) > IN_WORDS:
        assert sentence not in found, f'{path.name} repeats {found[sentence]}: {sentence}'
        found[sentence] = path.name


@pytest.mark.parametrize('path', DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
  for target, heading in re.findall(r'\]\(([^)#]*)#?([^)]*)\)', path.read_text()):
    if target.startswith('http'):
      continue
    found = path.parent / target if target else path
    assert found.exists(), target
    assert not heading or heading in anchors(found), f'{target}#{heading}'


def anchors(path):
  """Returns what GitHub calls the headings of a page."""
  lines = re.sub(r'(?s)```.*?```', '', path.read_text()).splitlines()
  headings = [line.lstrip('#').strip().lower() for line in lines if line.startswith('#')]
  kept = ('L', 'M', 'Nd', 'Pc')
  return {
    ''.join(x for x in text if x in '- ' or unicodedata.category(x).startswith(kept)).replace(
      ' ', '-'
    )
    for text in headings
  }


def test_the_learner_of_the_documents_keeps_the_contract():
  text = (ROOT / 'docs' / 'extending.md').read_text()
  source = next(
    block for block in re.findall(r'(?s)```python\n(.*?)```', text) if 'def init' in block
  )
  scope = {}
  exec(source, scope)  # what a reader copies
  contract.check(scope['averaging'](num_features=4))


def test_the_lines_that_use_a_model_run_as_they_stand(tmp_path, monkeypatch):
  text = DOCUMENTS[0].read_text().split('## Use it in ten lines')[1]
  monkeypatch.chdir(tmp_path)
  scope = {}
  exec(re.findall(r'(?s)```python\n(.*?)```', text)[0], scope)  # what a reader pastes
  history = scope['model'].load('ada.profile').history
  assert sorted(history.ids[history.mask]) == [0, 1, 3, 4]
  assert 0 < scope['p'] < 1


def test_every_column_and_metric_of_a_table_is_explained():
  named = set(re.findall(r'\w+', (ROOT / 'docs' / 'statistics.md').read_text()))
  assert {*report.EXPLAINED, *report.BESIDE, *results.COLUMNS} <= named


def test_every_learner_and_objective_is_explained():
  text = (ROOT / 'docs' / 'learners.md').read_text()
  first = [line.split('|')[1] for line in text.splitlines() if line.startswith('|')]
  rows = {name for cell in first for name in re.findall(r'`(\w+)`', cell)}
  assert {*LEARNERS, *OBJECTIVES} <= rows


def test_learners_named_in_the_readme_exist():
  table = DOCUMENTS[0].read_text().split('## Which learner')[1].split('##')[0]
  named = set(re.findall(r'`([a-z_]+)`', table)) - {'prior_scale'}
  assert named <= set(LEARNERS)
