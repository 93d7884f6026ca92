"""The assignment of rows to columns with the largest sum: the Hungarian method, exact.

Shortest augmenting paths (Crouse, IEEE TAES 2016), as SciPy's `linear_sum_assignment`, of which the
metric that needs it makes use; where several assignments have one sum, the same one is found.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..errors import TTDError

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]


def best_assignment(gains: npt.ArrayLike) -> tuple[Numbers, Numbers]:
    """Rows and columns of min(N, M) entries of gains [N, M], no two in one row or column.

    Their sum is the largest there is; rows ascend. TTDError for what is no matrix of numbers.
    """
    matrix = np.asarray(gains, np.float64)
    if matrix.ndim != 2 or not np.isfinite(matrix).all():
        raise TTDError(f"gains must be a matrix of finite numbers, got {list(matrix.shape)}")
    if matrix.shape[0] > matrix.shape[1]:
        columns, rows = best_assignment(matrix.T)
        order = rows.argsort()
        return rows[order], columns[order]
    chosen = _columns(-matrix)
    return np.arange(len(chosen)), chosen


def _columns(costs: Floats) -> Numbers:
    """The column of each row, of costs [N, M] with N <= M, whose sum is smallest: int64 [N]."""
    rows, columns = costs.shape
    prices = (np.zeros(rows), np.zeros(columns))
    column_of, row_of = np.full(rows, -1), np.full(columns, -1)
    for row in range(rows):
        sink, before = _path(costs, prices, row, row_of, column_of)
        while True:  # turn the path round, from its end to the new row
            at = before[sink]
            row_of[sink] = at
            column_of[at], sink = sink, column_of[at]
            if at == row:
                break
    return column_of


def _path(
    costs: Floats, prices: tuple[Floats, Floats], start: int, row_of: Numbers, column_of: Numbers
) -> tuple[int, Numbers]:
    """The cheapest path from a row to a free column: that column, and the row before each one.

    Dual prices of rows and columns are changed in place, so that the path costs nothing.
    """
    columns = costs.shape[1]
    cheapest, before = np.full(columns, np.inf), np.full(columns, -1)
    open_, seen_rows = list(range(columns - 1, -1, -1)), [start]
    row, reached = start, 0.0
    while True:
        places = np.array(open_)
        new = reached + costs[row, places] - prices[0][row] - prices[1][places]
        better = new < cheapest[places]
        cheapest[places[better]], before[places[better]] = new[better], row
        at = _nearest(cheapest[places], row_of[places])
        reached = cheapest[places[at]]
        column = open_[at]
        open_[at] = open_[-1]
        open_.pop()
        if row_of[column] < 0:
            break
        row = int(row_of[column])
        seen_rows.append(row)
    done = np.setdiff1d(np.arange(columns), open_)
    prices[0][start] += reached
    for one in seen_rows[1:]:
        prices[0][one] += reached - cheapest[column_of[one]]
    prices[1][done] -= reached - cheapest[done]
    return column, before


def _nearest(values: Floats, owners: Numbers) -> int:
    """The place of the smallest value; of equals the last free one, else the first."""
    lowest = values.min()
    equal = np.flatnonzero(values == lowest)
    free = equal[owners[equal] < 0]
    return int(free[-1] if len(free) else equal[0])
