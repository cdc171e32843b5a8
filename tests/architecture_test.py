"""The layers of the README's architecture section: imports point down only."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
# A package may import those of lower rank, and itself; siblings of one rank never meet.
RANKS = {
  'metapers.core': 0,
  'metapers.networks': 1,
  'metapers.learners': 2,
  'metapers.populations': 2,
  'metapers.data': 2,
  'metapers.io': 2,
  'metapers.training': 3,
  'metapers.evaluation': 3,
  'metapers.analysis': 4,
  'metapers.llm': 4,
  'metapers.serving': 5,
  'metapers.testing': 5,
  'metapers.bench': 6,
  'metapers.collect': 7,
  'metapers.__init__': 7,  # imports when first asked for
  'experiments': 8,
  'launchers': 9,
}
# Third-party packages that only these may import.
CONFINED = {
  'flax': ('metapers.networks', 'metapers.llm'),
  'ml_collections': ('experiments',),
  'orbax': ('metapers.io',),
  'matplotlib': ('metapers.io',),
  # Chat templates raise errors of jinja2.
  'jinja2': ('metapers.io', 'metapers.data.reward_scorer', 'metapers.collect.web'),
  'openai': ('metapers.io.chat',),
  'httpx2': ('metapers.io.chat', 'metapers.collect.check'),
  'submitit': ('launchers.requeue', 'launchers.submission'),  # an extra
  'botorch': ('metapers.bench.speed.botorch_loop',),  # an extra, like the next three
  'choix': ('metapers.bench.speed.choix_loop',),
  'higher': ('metapers.bench.speed.higher_loop',),
  'torchopt': ('metapers.bench.speed.torchopt_loop',),
  'sklearn': ('metapers.serving.estimator',),  # an extra
  'starlette': ('metapers.collect',),  # an extra
  'uvicorn': ('metapers.collect',),
}


def modules():
  for folder in ('metapers', 'experiments', 'launchers'):
    for path in sorted((ROOT / folder).rglob('*.py')):
      yield '.'.join(path.relative_to(ROOT).with_suffix('').parts), path


def imported(path):
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      yield node.module
      yield from (f'{node.module}.{alias.name}' for alias in node.names)


def package(name):
  return next((known for known in RANKS if name == known or name.startswith(known + '.')), None)


@pytest.mark.parametrize(('name', 'path'), list(modules()), ids=str)
def test_imports_point_down(name, path):
  own = package(name)
  for other in filter(None, map(package, imported(path))):
    allowed = other == own or RANKS[other] < RANKS[own]
    assert allowed, f'{name} ({own}) imports {other}, which does not lie below it'


@pytest.mark.parametrize(('name', 'path'), list(modules()), ids=str)
def test_third_parties_stay_where_they_belong(name, path):
  for other in imported(path):
    owners = CONFINED.get(other.split('.')[0])
    assert owners is None or name.startswith(owners), f'{name} imports {other}'


def test_launchers_import_only_what_needs_no_jax():
  allowed = {'launchers', 'metapers.core', 'metapers.core.files'}
  for name, path in modules():
    if name.startswith('launchers'):
      packages = ('launchers', 'metapers', 'experiments')
      own = {other for other in imported(path) if other.startswith(packages)}
      others = {other for other in own if not other.startswith('launchers.')}
      assert others <= allowed, f'{name} imports {sorted(others - allowed)}'


# Functions whose type follows jax_enable_x64 unless it is given, and its place among the arguments.
TYPED = {
  'jnp.zeros': 1,
  'jnp.ones': 1,
  'jnp.empty': 1,
  'jnp.eye': 3,
  'jnp.identity': 1,
  'jnp.linspace': 5,
  'jax.random.exponential': 2,
  'jax.random.gumbel': 2,
  'jax.random.laplace': 2,
  'jax.random.logistic': 2,
  'jax.random.normal': 2,
  'jax.random.randint': 4,
  'jax.random.truncated_normal': 4,
  'jax.random.uniform': 2,
}


@pytest.mark.parametrize(('name', 'path'), list(modules()), ids=str)
def test_arrays_that_x64_would_widen_state_their_type(name, path):
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Call):
      function = ast.unparse(node.func)
      is_typed = any(word.arg == 'dtype' for word in node.keywords)
      is_typed |= len(node.args) > TYPED.get(function, -1)
      assert is_typed, f'{name}, line {node.lineno}: {function} states no dtype'
      # It draws positions as wide as the default; index by `jax.random.randint`.
      assert function != 'jax.random.choice', f'{name}, line {node.lineno}'


def test_top_level_is_fixed():
  allowed = {
    'setup.py', 'metapers', 'experiments', 'launchers', 'tests', 'notebooks', 'docs', 'README.md',
    'CHANGELOG.md', 'LICENSE', 'MANIFEST.in', 'Makefile', 'constraints.txt', 'constraints-3.12.txt',
    'pyproject.toml', 'build', 'dist', 'metapers.egg-info', 'runs',
  }  # fmt: skip
  found = {path.name for path in ROOT.iterdir() if not path.name.startswith('.')}
  assert found <= allowed


def test_no_two_test_files_share_a_name():
  # pytest imports them by their bare names, and refuses the second.
  names = sorted(path.name for path in (ROOT / 'tests').rglob('*_test.py'))
  assert len(set(names)) == len(names), [x for x in names if names.count(x) > 1]
