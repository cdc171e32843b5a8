"""Clusters of users from their own soft tokens: k-means, of as many as stand apart.

Trained from a random start, weights softmax(a_i) stay nearly equal for long, since all clusters get
the same gradient. Started from individuals that were trained for a while they are told apart from
the first step on.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from metapers.core.types import Float, Int, Params
from metapers.learners import options

OWN_SHARE = 0.95  # of softmax(a_i) on a user's own cluster, at the start
LEAST_WEIGHT = 1e-3  # of a cluster without users
NUM_STARTS, NUM_UPDATES = 8, 30
LARGEST_SAMPLE = 1000  # users whose distances are all computed


class Clustering(NamedTuple):
  """centers: [K, D]. assigned: [U], each user's cluster."""

  centers: Float[np.ndarray, 'K D']
  assigned: Int[np.ndarray, 'U']


def squared_distances(
  points: Float[np.ndarray, 'U D'], centers: Float[np.ndarray, 'K D']
) -> Float[np.ndarray, 'U K']:
  """Returns |x - c|² of all points and centers, at least 0."""
  products = points @ centers.T
  squares = np.square(points).sum(-1)[:, None] + np.square(centers).sum(-1)[None]
  return np.maximum(squares - 2 * products, 0)


def k_means(
  points: Float[np.ndarray, 'U D'], num_clusters: int, rng: np.random.Generator
) -> Clustering:
  """Returns the best of several runs of Lloyd's algorithm, each from a start by k-means++.

  Reference:
    Arthur and Vassilvitskii 2007 (SODA).
  """
  runs = [_lloyd(points, _spread(points, num_clusters, rng)) for _ in range(NUM_STARTS)]
  return min(runs, key=lambda run: np.square(points - run.centers[run.assigned]).sum())


def silhouette(points: Float[np.ndarray, 'U D'], assigned: Int[np.ndarray, 'U']) -> float:
  """Returns the mean silhouette, in [-1, 1]: 1 where each cluster is far from the next.

  (b - a) / max(a, b), a the mean distance to the others of one's cluster, b the smallest mean
  distance to those of another; 0 of a user alone in a cluster, and of one cluster.

  Reference:
    Rousseeuw 1987 (Journal of Computational and Applied Mathematics 20).
  """
  labels, index, sizes = np.unique(assigned, return_inverse=True, return_counts=True)
  if len(labels) < 2:
    return 0.0
  distances = np.sqrt(squared_distances(points, points))
  totals = distances @ np.eye(len(labels))[index]  # [U, K]
  rows = np.arange(len(points))
  within = totals[rows, index] / np.maximum(sizes[index] - 1, 1)
  means = totals / sizes
  means[rows, index] = np.inf
  other = means.min(-1)
  worth = (other - within) / np.maximum(np.maximum(other, within), 1e-12)
  return float(np.mean(np.where(sizes[index] > 1, worth, 0)))


def separated(points: Float[np.ndarray, 'U D'], most: int, rng: np.random.Generator) -> Clustering:
  """Returns the clustering into 2 to `most` clusters that has the largest silhouette.

  More clusters than stand apart would divide users who are alike.
  """
  sample = rng.permutation(len(points))[:LARGEST_SAMPLE]
  tried = [k_means(points, size, rng) for size in range(2, min(most, len(points) - 1) + 1)]
  if not tried:
    return k_means(points, 1, rng)
  return max(tried, key=lambda made: silhouette(points[sample], made.assigned[sample]))


def from_individuals(
  individuals: Params, num_clusters: int, *, num_directions: int = 16, seed: int = 0
) -> Params:
  """Returns the params of `user_model.cluster` that stand for those of trained individuals.

  Offsets are reduced to the directions in which they differ most, and clustered there. V_k is e_0
  plus the mean offset of cluster k, and a_i has OWN_SHARE on the user's own; clusters beyond those
  that stand apart start at e_0 and nearly without weight.

  Args:
    individuals: params of `user_model.individual`.
    num_clusters: K at most.
    num_directions: of the reduction.
    seed: of k-means.

  Raises:
    ValueError: for fewer than one cluster.
  """
  options.at_least_one(num_clusters=num_clusters)
  offsets = np.asarray(individuals['offsets'], np.float64)
  flat = offsets.reshape(len(offsets), -1)
  left, values, _ = np.linalg.svd(flat - flat.mean(0), full_matrices=False)
  points = (left * values)[:, :num_directions]
  assigned = separated(points, num_clusters, np.random.default_rng(seed)).assigned
  size = assigned.max() + 1
  members = np.eye(num_clusters)[assigned]  # [U, K]
  counts = members.sum(0)
  means = members.T @ flat / np.maximum(counts, 1)[:, None]
  generic = np.asarray(individuals['generic'])
  others = (1 - OWN_SHARE) / max(size - 1, 1)
  rows = np.where(members > 0, OWN_SHARE, others)
  weights = np.concatenate([rows, counts[None] / counts.sum()])
  weights[:, size:] = 0
  logits = np.log(np.maximum(weights, LEAST_WEIGHT))
  clusters = generic[None] + means.reshape(num_clusters, *generic.shape)
  started = {'logits': logits, 'clusters': clusters, 'sharpness': 1.0}
  return {name: jnp.asarray(value, generic.dtype) for name, value in started.items()}


def adjusted_rand(one: Int[np.ndarray, 'U'], other: Int[np.ndarray, 'U']) -> float:
  """Returns the adjusted Rand index of two clusterings: 1 where they agree, 0 by chance.

  Reference:
    Hubert and Arabie 1985 (Journal of Classification 2).
  """
  _, one = np.unique(one, return_inverse=True)
  _, other = np.unique(other, return_inverse=True)
  table = np.zeros((one.max() + 1, other.max() + 1))
  np.add.at(table, (one, other), 1)

  def pairs(counts):
    return (counts * (counts - 1) / 2).sum()

  rows, columns, together = pairs(table.sum(1)), pairs(table.sum(0)), pairs(table)
  by_chance = rows * columns / max(pairs(np.asarray([len(one)])), 1)
  most = (rows + columns) / 2
  return 1.0 if most == by_chance else float((together - by_chance) / (most - by_chance))


def _spread(
  points: Float[np.ndarray, 'U D'], num_clusters: int, rng: np.random.Generator
) -> Float[np.ndarray, 'K D']:
  centers = points[rng.integers(len(points))][None]
  while len(centers) < num_clusters:
    nearest = squared_distances(points, centers).min(-1)
    total = nearest.sum()
    share = nearest / total if total > 0 else None
    centers = np.concatenate([centers, points[rng.choice(len(points), p=share)][None]])
  return centers


def _lloyd(points: Float[np.ndarray, 'U D'], centers: Float[np.ndarray, 'K D']) -> Clustering:
  for _ in range(NUM_UPDATES):
    assigned = squared_distances(points, centers).argmin(-1)
    members = np.eye(len(centers))[assigned]
    counts = members.sum(0)[:, None]
    moved = np.where(counts > 0, members.T @ points / np.maximum(counts, 1), centers)
    if np.array_equal(moved, centers):
      break
    centers = moved
  return Clustering(centers, assigned)
