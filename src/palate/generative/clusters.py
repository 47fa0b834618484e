"""Recursive spectral clusters of items that users chose together: paths in a tree, for collaborative ids."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import eigsh
from sklearn.cluster import KMeans

from palate.recommend.relations import membership_matrix
from palate.schema import Doubles, Interactions, Ints


def recursive_clusters(
    events: Interactions, items: int, clusters: int, most: int, rng: np.random.Generator
) -> list[tuple[int, ...]]:
    """Cluster items recursively until clusters are small; the last level numbers the items of a cluster.

    Items without training interactions are assigned at random.

    Args:
        events: Training interactions.
        items: Number of items, I.
        clusters: Number of clusters per division.
        most: Maximum size of a cluster; larger ones are divided.
        rng: Random number generator.

    Returns:
        Each item's path from the root; all are distinct, and none is a prefix of another.
    """
    chosen = membership_matrix(events, items).astype(np.float64)
    together = sparse.csr_matrix(chosen.T @ chosen)
    together.setdiag(0)
    together.eliminate_zeros()
    paths: list[tuple[int, ...]] = [() for _ in range(items)]
    known = np.flatnonzero(np.asarray(together.sum(axis=0)).ravel() > 0)
    unknown = rng.permutation(np.setdiff1d(np.arange(items), known))

    def divide(members: Ints, path: tuple[int, ...], related: bool) -> None:
        if len(members) <= most:
            for place, item in enumerate(members.tolist()):
                paths[item] = (*path, place)
            return
        parts = min(clusters, len(members))
        group = spectral_groups(together[members][:, members], parts, rng) if related else None
        if group is None or len(np.unique(group)) < 2:  # nothing to tell them apart by
            group = np.arange(len(members)) * parts // len(members)
        for number, label in enumerate(np.unique(group)):
            divide(members[group == label], (*path, number), related)

    if len(known) and len(unknown):
        divide(known, (0,), True)
        divide(unknown, (1,), False)
    else:
        divide(known if len(known) else unknown, (), bool(len(known)))
    return paths


def spectral_groups(together: sparse.csr_matrix, groups: int, rng: np.random.Generator) -> Ints | None:
    """Cluster items by the first eigenvectors of their normalised co-occurrence (Ng, Jordan and Weiss, 2001).

    Args:
        together: Number of users of each pair of items, [I, I].
        groups: Number of clusters.
        rng: Random number generator.

    Returns:
        Each item's cluster, [I]; None if no two items share a user.
    """
    degree = np.asarray(together.sum(axis=0)).ravel()
    if not degree.any():
        return None
    scale = sparse.diags(1 / np.sqrt(np.maximum(degree, 1e-12)) * (degree > 0))
    vectors = _first_vectors(sparse.csr_matrix(scale @ together @ scale), groups, rng)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    found = KMeans(groups, n_init=1, random_state=int(rng.integers(2**31))).fit(
        vectors / np.maximum(norms, 1e-12)
    )
    labels: Ints = found.labels_.astype(np.int64)
    return labels


def _first_vectors(matrix: sparse.csr_matrix, count: int, rng: np.random.Generator) -> Doubles:
    """Compute the eigenvectors of the largest eigenvalues, [I, count]."""
    size = matrix.shape[0]
    if size <= 2 * count:
        _, vectors = np.linalg.eigh(matrix.toarray())
        return np.asarray(vectors[:, -count:])
    _, vectors = eigsh(matrix, k=count, which="LA", v0=rng.random(size), tol=1e-4, maxiter=20 * size)
    return np.asarray(vectors)
