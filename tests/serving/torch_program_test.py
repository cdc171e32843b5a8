"""Programs of PyTorch against the Personalizer, and each operation against JAX."""

import functools
import inspect
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip('torch', reason="needs the extra 'torch': PyTorch is missing")

from served_learners import CAPACITY, D, draw, export  # noqa: E402

from metapers import learners  # noqa: E402
from metapers.core.population import Scaling  # noqa: E402
from metapers.serving import exports, torch_operations, torch_program  # noqa: E402
from metapers.serving.comparisons import Comparisons  # noqa: E402
from metapers.serving.personalizer import Personalizer  # noqa: E402

LEARNERS = ('pooled', 'gaussian_prior', 'low_rank', 'cnp', 'bayes_head', 'dirichlet_mixture')
SIZES = {'num_comparisons': CAPACITY, 'num_questions': 3}
WITHOUT = """
import sys
sys.modules |= {'jax': None, 'metapers': None}
import numpy, torch
made = torch.export.load(sys.argv[1]).module()(*map(torch.tensor, numpy.load(sys.argv[2]).values()))
numpy.savez(sys.argv[3], *(each.numpy() for each in made))
"""


def user(seed=1):
  """What is known and asked of one: 5 comparisons and padding, 2 pairs and one candidate."""
  rng = np.random.default_rng(seed)
  features, candidates = draw(CAPACITY, 2, seed=seed), draw(3, 2, seed=seed + 1)
  shown, real = np.ones((CAPACITY, 2), bool), np.ones((3, 2), bool)
  shown[5:], real[1, 1] = False, False
  choice = rng.integers(0, 2, CAPACITY).astype(np.int32)
  weight = rng.uniform(0.5, 2, CAPACITY).astype(np.float32)
  wide = (x.astype(np.float64) for x in (features, candidates))
  features, candidates = (np.where(m[..., None], x, np.nan) for x, m in zip(wide, (shown, real)))
  return features, shown, choice, weight, candidates, real


def of_personalizer(model, given):
  """Utilities and probabilities, [3, 2] each."""
  features, shown, choice, weight, candidates, real = given
  profile = model.adapt(Comparisons(features[:5], choice[:5], None, shown[:5], weight[:5]))
  plain = np.where(real[..., None], candidates, candidates[0, 0])
  scores = model.score(profile, plain.reshape(-1, D)).reshape(real.shape)
  first = model.probability(profile, plain[:, 0], plain[:, 1])
  first[1] = 1
  return np.where(real, scores, 0), np.stack([first, 1 - first], -1)


@functools.cache
def pairs_model(name):
  return Personalizer(export(name, num_candidates=2), capacity=CAPACITY)


def close(found, expected):
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('name', LEARNERS)
def test_a_module_says_what_the_personalizer_says(name):
  model = pairs_model(name)
  function = torch_program.adapt_score(model.export, None)
  traced = jax.make_jaxpr(function)(*torch_program.scaled(model.export, user()))
  with torch.no_grad():
    found = torch_program.Program(traced, model.export.scaling)(*map(torch.tensor, user()))
  for mine, theirs in zip(found, of_personalizer(model, user())):
    close(mine.numpy(), theirs)


@pytest.mark.slow
@pytest.mark.parametrize('name', LEARNERS)
def test_so_does_its_file(name, tmp_path):
  made = export(name, num_candidates=2)
  if 'inner_steps' in inspect.signature(learners.factory(name)).parameters:
    made.kwargs['inner_steps'] = 2  # unrolled, one as the other: all of them take a minute
  path = torch_program.write(made, tmp_path / 'one.pt2', **SIZES)
  found = torch.export.load(path).module()(*map(torch.tensor, user()))
  for mine, theirs in zip(found, of_personalizer(Personalizer(made, capacity=CAPACITY), user())):
    close(mine.numpy(), theirs)


def test_a_file_runs_without_jax_and_says_what_it_is(tmp_path):
  scaling = Scaling(np.array([1e4, 0, -3, 5]), np.array([1, 2, 0.1, 7.0]))
  made = export('pooled', num_candidates=2, scaling=scaling, feature_names=tuple('abcd'))
  path = torch_program.write(made, tmp_path / 'one.pt2', **SIZES)
  features, *others, candidates, real = user()
  raw = (x * scaling.scale + scaling.mean for x in (features, candidates))
  given = (next(raw), *others, next(raw), real)
  np.savez(tmp_path / 'in.npz', *given)
  words = [sys.executable, '-c', WITHOUT, path, tmp_path / 'in.npz', tmp_path / 'out.npz']
  ran = subprocess.run(words, capture_output=True, text=True)
  assert ran.returncode == 0, ran.stderr
  found = np.load(tmp_path / 'out.npz')
  expected = of_personalizer(Personalizer(made, capacity=CAPACITY), given)
  for mine, theirs in zip(found.values(), expected):
    close(mine, theirs)
  extra = {torch_program.HEADER: ''}
  torch.export.load(path, extra_files=extra)
  said = json.loads(extra[torch_program.HEADER])
  assert said['model'] == exports.fingerprint(made) and said['feature_names'] == list('abcd')
  assert said['inputs']['features'] == ['float64', CAPACITY, 2, D]


@pytest.mark.parametrize(
  ('path', 'sizes', 'message'),
  [
    ('one.pt', {}, r'end in \.pt2, got one\.pt'),
    ('one.pt2', {'num_questions': 0}, 'at least 1, got 16 and 0'),
  ],
)
def test_mistakes_are_named(path, sizes, message, tmp_path):
  with pytest.raises(ValueError, match=message):
    torch_program.write(export('pooled'), tmp_path / path, **sizes)


def test_a_program_that_differs_is_not_written(tmp_path, monkeypatch):
  wrong = torch_operations.plain(lambda x: torch.exp(x) + 1e-3)
  monkeypatch.setitem(torch_operations.OPERATIONS, 'exp', wrong)
  with pytest.raises(ValueError, match='of the program and of JAX differ by'):
    torch_program.write(export('pooled'), tmp_path / 'one.pt2', **SIZES)
  assert not list(tmp_path.iterdir())


def agree(function, *given):
  """Both compute the same, the last bits aside, of the same shapes and types."""
  traced = jax.make_jaxpr(function)(*given)
  found = torch_operations.run(traced, list(map(torch.tensor, given)))
  for mine, theirs in zip(found, jax.tree.leaves(jax.jit(function)(*given))):
    assert mine.numpy().dtype == theirs.dtype
    np.testing.assert_allclose(mine.numpy(), theirs, rtol=1e-5, atol=1e-6)


X = np.random.default_rng(0).normal(size=(3, 4, 4)).astype(np.float32)
FAR = np.array([[0, 3], [2, -1], [5, 1]], np.int32)  # some of them outside of X


def strip(x, at):
  return jax.lax.dynamic_slice(x, (at,), (2,))


def coarse(x):  # with equals among them
  return x.astype(jnp.int32).astype(jnp.float32)


ONE_BY_ONE = {
  'indexing': lambda x: (x[FAR[:, 0] % 3, :, FAR[:, 1] % 4], x[:, FAR[:2, 0]], x[1, ::2, 3:0:-1]),
  'filled': lambda x: x.at[FAR[:, 0], FAR[:, 1]].get(mode='fill', fill_value=7),
  'nan': lambda x: x.at[FAR[:, 0]].get(mode='fill'),
  'clipped': lambda x: x.at[FAR[:, 0]].get(mode='clip'),
  'batched': lambda x: jax.vmap(lambda rows, at: rows[at])(x, jnp.asarray(FAR % 4)),
  'slices': lambda x: jax.vmap(strip)(x[:, :, 0], jnp.asarray([0, 1, 9])),
  'added': lambda x: x.at[FAR[:, 0], FAR[:, 1]].add(x[0, :3, :]),
  'along': lambda x: jnp.take_along_axis(x, jnp.asarray(FAR % 4)[..., None], 1),
  'products': lambda x: [
    jnp.einsum(rule, x, x) for rule in ('bij,bkj->kbi', 'bij,cjk->bick', 'bij,bik->jk')
  ],
  'sums': lambda x: (x.sum((0, 2)), x.max(), x.min(1), (x > 0).all((0, 1)), (x > 2).any(-1)),
  'places': lambda x: (x.argmin(1), x.argmax(-1), coarse(x).argmax(-1)),
  'running': lambda x: (jnp.cumsum(x, 1), jax.lax.cumsum(x, 0, reverse=True)),
  'ordered': lambda x: (jnp.argsort(coarse(x), 1), jnp.sort(x, 0)),
  'largest': lambda x: jax.lax.top_k(coarse(x), 2),
  'parts': lambda x: (jnp.split(x, [1, 3], 1), jnp.stack([x, x], 2), jnp.concatenate([x, x], -1)),
  'systems': lambda x: (jnp.linalg.solve(x, x[..., :1]), jnp.linalg.inv(x)),
  'roots': lambda x: (jnp.linalg.cholesky(x @ x.mT), jnp.linalg.cholesky(x)),
  'triangles': lambda x: [
    jax.lax.linalg.triangular_solve(x, x, left_side=left, lower=lower, transpose_a=turned)
    for left in (True, False) for lower in (True, False) for turned in (True, False)
  ],
  'loops': lambda x: jax.lax.scan(lambda c, row: (c * 0.5 + row, c.sum()), x[0], x, reverse=True),
  'numbers': lambda x: (jax.lax.div(x.astype(int), 2), x / 3, x**3, jnp.select([x > 0], [x])),
}  # fmt: skip


@pytest.mark.parametrize('name', ONE_BY_ONE)
def test_an_operation_is_that_of_jax(name):
  agree(ONE_BY_ONE[name], X)


def test_what_depends_on_no_input_may_be_anything_of_jax():
  agree(lambda x: x + jax.random.normal(jax.random.key(0), x.shape) + jnp.linalg.det(X[0]), X)


def test_an_operation_that_is_not_known_is_named():
  with pytest.raises(ValueError, match="operation 'cumprod' is not known in PyTorch: add it"):
    agree(jnp.cumprod, X)
