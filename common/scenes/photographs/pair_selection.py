"""Which of many photographs probably show the same things, found without matching all of them.

Preemptive matching (Wu, "Towards linear-time incremental structure from motion", 3DV 2013): the
largest details of a photograph are few and survive changes of viewpoint best, so pairs that share
none of these are not worth comparing in full.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Int, UInt8

LARGEST_DETAILS = 100  # of each photograph
RATIO = 0.8  # the best match is so much nearer than the second best (Lowe, IJCV 2004)
FEWEST_SHARED = 4  # of them; one or two match by accident
PARTNERS = 30  # of each photograph, those that share most
NEIGHBOURS = 5  # before and after in order, whatever they share: most people walk


def likely_pairs(descriptors: Sequence[UInt8[np.ndarray, "_ 128"]]) -> list[tuple[int, int]]:
    """Pairs (i, j), i < j, of photographs by the SIFT descriptors of each, largest details first.

    Every photograph gets the PARTNERS that share most of its details, and its NEIGHBOURS.
    """
    shared = _shared_details(np.stack([_unit_vectors(each) for each in descriptors]))
    place = np.arange(len(shared))
    near = np.abs(place[:, None] - place) <= NEIGHBOURS
    ranked = np.argsort(-shared, axis=1, kind="stable")[:, :PARTNERS]
    enough = shared >= FEWEST_SHARED
    best = np.zeros_like(near)
    np.put_along_axis(best, ranked, np.take_along_axis(enough, ranked, axis=1), axis=1)
    one, other = np.nonzero(np.triu(near | best | best.T, k=1))
    return list(zip(one.tolist(), other.tolist(), strict=True))


def _unit_vectors(descriptors: UInt8[np.ndarray, "n 128"]) -> Float32[np.ndarray, "d 128"]:
    """The largest details' descriptors; rows of 0, which match nothing, where there are fewer."""
    vectors = np.zeros((LARGEST_DETAILS, 128), dtype=np.float32)
    some = descriptors[:LARGEST_DETAILS].astype(np.float32)
    vectors[: len(some)] = some / np.linalg.norm(some, axis=1, keepdims=True).clip(1e-9)
    return vectors


def _shared_details(vectors: Float32[np.ndarray, "V d 128"]) -> Int[np.ndarray, "V V"]:
    """How many details of one photograph have a match in the other that no second one rivals."""
    photographs, details, _ = vectors.shape
    shared = np.zeros((photographs, photographs), dtype=np.int64)
    for row in range(photographs - 1):
        later = vectors[row + 1 :]
        cosine = (later.reshape(-1, 128) @ vectors[row].T).reshape(len(later), details, details)
        second, first = np.moveaxis(np.partition(cosine, details - 2, axis=2)[..., -2:], 2, 0)
        # Of unit vectors, the squared distance is 2 - 2 cosine.
        shared[row, row + 1 :] = ((1 - first) < RATIO**2 * (1 - second)).sum(axis=1)
    return shared + shared.T
