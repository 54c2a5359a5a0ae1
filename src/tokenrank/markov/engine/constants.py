"""Tuning constants: which method at which size, how much memory at a time, how long to try.

They move time and memory and no answer beyond its tolerance; measured on a CPU with ``benchmarks/chain.py`` and
``benchmarks/markov.py``. What an answer means or promises (tolerances, ties, thresholds of a definition) stands with
the question that asks for it. Always read as ``constants.NAME``, so that a test can set one for all.
"""

from __future__ import annotations

import torch

TINY = torch.finfo(torch.float64).tiny  # the smallest normal number: sums below count as none
LOST = 1e-290  # steps of a softmax below are lost, or have lost digits, in float64

# ---- memory

DENSE_BYTES = 256 * 2**20  # what materialised heads may take at a time; a dense head pays after three applies
VIEWS_BYTES = 2**20  # of a head from which a product of its own costs no more than its share of a batched one
POWER_BYTES = 512 * 2**20  # for the powers of as many heads as fit (mixing times)
PCCA_BYTES = 64 * 2**20  # largest tensor made by PCCA+
HEAD_BYTES = 2**20  # heads beyond are read one at a time on a CPU, so that they stay in its cache
SOLVE_BYTES = 4 * 2**20  # of heads that are factored together: beyond, they leave the cache
ELIMINATION_BYTES = 32 * 2**20  # of chains that are eliminated together
CERTIFY_BYTES = 4 * 2**20  # of rows in double precision that a proof reads together: what stays in a cache,
CERTIFY_BYTES_ON_DEVICE = 512 * 2**20  # and few launches elsewhere
ROWS_AT_ONCE = 128  # rows of a chain that are read together, wherever they are
COMPARED_ROWS = 256  # rows compared with one another at a time (Dobrushin's coefficient)
GRAPH_ROWS = 256  # rows of a boolean matrix looked at together where a temporary of their size is made
CONNECTED_ENTRIES = 2**28  # entries of supports looked at together on a device
GRAPH_ENTRIES = 2**22  # entries of the support looked at together (reachability)

# ---- direct methods: blocks

TRIANGULAR_BLOCK = 256  # tokens solved together by substitution
ELIMINATION_LEAF = 16  # states reduced one by one; larger blocks in halves, by matrix products
PASSAGE_LEAF = 16  # states that are targets one by one (mean first passage)

# ---- iterative methods

POWER_FIRST = 4  # power steps before the contraction is judged
POWER_SLOW = 0.5  # contraction of the ℓ1 residual from which a Krylov space needs fewer applies
GMRES_DIMENSION = 48  # of a Krylov space of one column before it is restarted
GMRES_BLOCKS = 24  # blocks of several columns before it is,
GMRES_LARGEST = 256  # and the dimension that they may take together
GMRES_CHECK = 6  # applies between looks at the residual

# ---- which method: tokens up to which a direct one pays, applies after which it does where iterating does not converge

RANK_DIRECT = 768  # TokenRank: LU costs no more than iterating, whatever the gap
RANK_STUBBORN = 4096  # and up to so many tokens it is worth while for heads that do not converge,
RANK_PATIENCE = 150  # after so many applies
SOLVE_SMALL = 64  # transient tokens: elimination of all heads at once costs no more than LU one by one
SOLVE_DIRECT = 2048  # LU costs no more than iterating, for each block of right-hand sides
SOLVE_STUBBORN = 4096  # and up to so many it is worth while for heads that do not converge,
SOLVE_PATIENCE = 32  # after so many applies
SOLVE_WIDTH = 16  # right-hand sides that share a Krylov space
CLASS_DIRECT = 1024  # stationary vector of a recurrent class: elimination costs little
CLASS_STUBBORN = 4096  # and up to so many tokens it is worth while where iterating does not converge,
CLASS_PATIENCE = 256  # after so many applies
KEMENY_DIRECT = 2048  # Kemeny's constant: elimination costs no more than three block solves
PASSAGE_LARGEST = 4096  # mean first passage: all pairs are eliminated; beyond, one solve a target
MIXING_EXACT = 512  # mixing times: the first power that has mixed is looked for
MIXING_SQUARED = 2048  # and up to so many tokens powers are formed for the upper bound,
MIXING_DOUBLINGS = 30  # up to A^(2³⁰): rounding grows with the power
ALL_EIGENVALUES = 128  # all of them cost less than a Krylov space
SPECTRUM_RESTARTS = 12  # of one head's Krylov space before it is given up
SPECTRUM_STUBBORN = 512  # up to here a head that is given up gets all its eigenvalues; beyond it is called uncertain
SPECTRUM_ROTATED = 2048  # and so far a triangular one whose vectors are no basis gets one by rotations
SPECTRUM_STATIONARY_APPLIES = 5000  # for the first left vector
SUBSPACE_WIDTH = 16  # vectors that all heads are first tried with, at the price of two in memory
SUBSPACE_STEPS = 4  # products between two looks at the Ritz values
SUBSPACE_TURNS = 6  # looks, after which a Krylov space goes on;
SUBSPACE_PLAIN = 2  # after so many of them M is squared before each,
SUBSPACE_SQUARINGS = 2  # so often,
SUBSPACE_SQUARED = 512  # up to so many tokens
SUBSPACE_FEWEST = 48  # tokens from which that is cheaper than all eigenvalues
LAMBDA2_DIMENSION = 128  # of one Krylov space
LAMBDA2_CHECKS = 8  # looks at the Ritz values while a space grows
LAMBDA2_RESTARTS = 4  # thick restarts of the spaces of heads that need them
LAMBDA2_BYTES = 4 * 2**20  # of heads that share a Krylov space: what stays in the cache between applies
LAMBDA2_STUBBORN = 512  # up to here a head that does not settle gets all its eigenvalues; beyond it is uncertain
LAMBDA2_GROWTH_STEPS = 64  # plain applies whose growth rate bounds a ring of eigenvalues from below
DEVICE_WIDTH = 8  # columns of a block where all heads share one space, on a device: they cost what one costs
# columns below which a start says too little of the condition of an eigenvalue: it is taken from what each of b columns
# of normal numbers has of a vector, a χ² of b degrees, which is a hundredth of its mean, and the condition ten times
# too small, in one case of 12 for one column, of 100 for two, of 5,000 for four and of ten million for eight
DEVICE_NARROWEST = 4
DEVICE_DIMENSION = 384  # of that space,
DEVICE_RESTARTS = 2  # and how often it is begun again from its leading vectors
DEVICE_CHECKED = 8  # blocks between two looks at it,
DEVICE_REFINED = 4  # and at a space of four blocks that mends vectors found by products in half precision
DEVICE_SQUARINGS = 24  # of its projection: moduli that are apart by 1e-7 are told apart
QUASI_STEPS = 100  # of the search for the survival probability; a dozen is usual
QUASI_PATIENCE = 3  # inverse iterations without progress
EXCHANGE_ROUNDS = 1000  # exchanges of one stage of PCCA+; far more than any cloud of attention asked for
EXCHANGE_SWEEPS = 2  # looks in random directions for states that no neighbour leads to
