import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.cluster.vq import kmeans2

from metapers.llm import clusters, user_model

RNG = np.random.default_rng(0)
CENTERS = np.asarray([[4.0, 0, 0], [0, 4, 0], [0, 0, 4]])
TYPES = np.arange(60) % 3
POINTS = CENTERS[TYPES] + 0.3 * RNG.standard_normal((60, 3))


def test_k_means_finds_separate_clusters():
  made = clusters.k_means(POINTS, 3, np.random.default_rng(1))
  assert clusters.adjusted_rand(made.assigned, TYPES) == 1
  centers, _ = kmeans2(POINTS, CENTERS, minit='matrix')
  order = np.argsort(made.centers.argmax(-1))
  np.testing.assert_allclose(made.centers[order], centers, atol=1e-10)


@pytest.mark.parametrize('most', [3, 5, 10])
def test_only_as_many_clusters_are_used_as_stand_apart(most):
  made = clusters.separated(POINTS, most, np.random.default_rng(1))
  assert len(np.unique(made.assigned)) == 3


def test_the_silhouette_is_its_definition():
  points, assigned = POINTS[:9], TYPES[:9]
  apart = np.linalg.norm(points[:, None] - points[None], axis=-1)
  worth = []
  for i in range(9):
    own = [apart[i, j] for j in range(9) if assigned[j] == assigned[i] and j != i]
    other = min(apart[i, assigned == k].mean() for k in set(assigned) - {assigned[i]})
    worth.append((other - np.mean(own)) / max(other, np.mean(own)))
  np.testing.assert_allclose(clusters.silhouette(points, assigned), np.mean(worth))
  assert clusters.silhouette(points, np.zeros(9, int)) == 0


def test_clusters_start_where_individuals_are():
  users = user_model.individual(60, 1)
  params = users.init(jax.random.key(0), jnp.ones((4, 3)))
  params['offsets'] = jnp.asarray(POINTS, jnp.float32)[:, None]
  started = clusters.from_individuals(params, 5)
  model = user_model.cluster(60, 1, num_clusters=5)
  shapes = jax.tree.map(jnp.shape, model.init(jax.random.key(0), jnp.ones((4, 3))))
  assert jax.tree.map(np.shape, started) == shapes
  assigned = np.asarray(started['logits'])[:-1].argmax(-1)
  assert clusters.adjusted_rand(assigned, TYPES) == 1
  assert 2.7 < user_model.effective_clusters(started['logits'][:-1]) < 3.3
  embedded = jax.vmap(model.known, (None, 0))(started, jnp.arange(60))[:, 0] - 1
  assert np.abs(embedded - CENTERS[TYPES]).max() < 0.6


def test_the_adjusted_rand_index_is_hubert_and_arabies():
  one, other = np.asarray([0, 0, 0, 1, 1, 1]), np.asarray([0, 0, 1, 1, 2, 2])
  np.testing.assert_allclose(clusters.adjusted_rand(one, other), 0.24242424)
  assert clusters.adjusted_rand(one, 1 - one) == 1
  many = np.random.default_rng(0).integers(0, 3, (2, 5000))
  assert abs(clusters.adjusted_rand(*many)) < 0.01
