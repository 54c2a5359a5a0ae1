/**
 * Where walks end.
 *
 * @typedef {{values: Float64Array, residual: number, converged: boolean}} Limit
 *   `residual`: ℓ1 of what one more step changes.
 */

/**
 * The mean of a sequence's members whose differences cancel best (reduced-rank extrapolation): slow modes, of which
 * there are fewer than members, are gone from it. A distribution; the last member where that fails.
 *
 * @param {Float64Array[]} seen  Each one step after the one before.
 * @returns {Float64Array}
 */
export function extrapolated(seen) {
  const m = seen.length - 1, last = seen[m]
  const changes = seen.slice(1).map((v, a) => v.map((x, i) => x - seen[a][i]))
  /** @param {Float64Array} x @param {Float64Array} y */
  const dot = (x, y) => x.reduce((sum, z, i) => sum + z * y[i], 0)
  const rows = changes.map(x => [...changes.map(y => dot(x, y)), 1])
  const trace = rows.reduce((sum, row, a) => sum + row[a], 0)
  rows.forEach((row, a) => row[a] += 1e-13 * trace)
  // Gauss and Jordan without pivots: the matrix is positive definite
  rows.forEach((row, a) => rows.forEach((other, b) => {
    const times = other[a] / row[a]
    if (b !== a) for (let c = a; c <= m; c++) other[c] -= times * row[c]
  }))
  const weights = rows.map((row, a) => row[m] / row[a]), total = weights.reduce((a, b) => a + b)
  const v = last.map((_, i) => Math.max(0, weights.reduce((sum, w, a) => sum + w * seen[a + 1][i], 0) / total))
  const sum = v.reduce((a, b) => a + b)
  return sum > 0.5 && sum < 2 ? v.map(x => x / sum) : last
}

/**
 * The limit of a causal chain with teleport: its matrix is triangular, so that it is solved by substitution.
 *
 * @param {import('./rows.js').Chain} chain
 * @param {boolean} back
 * @param {number} alpha  Below one.
 * @returns {Float64Array}
 */
export function substituted({size, at, columns, machine: {f}}, back, alpha) {
  const v = new Float64Array(size).fill((1 - alpha) / size), row = at.stride / 4
  for (let n = 0; n < size; n++) {
    const i = back ? n : size - 1 - n, a = at.matrix / 4 + i * row
    if (back && columns) {
      // v holds what arrives divided by the column's sum: what leaves again for every token
      let sum = v[i]
      for (let j = 0; j < i; j++) sum += alpha * f[a + j] * v[j]
      v[i] = sum / (columns[i] - alpha * f[a + i])
    } else {
      v[i] /= 1 - alpha * f[a + i]
      for (let j = 0; j < i; j++) v[j] += alpha * f[a + j] * v[i]
    }
  }
  return columns && back ? v.map((x, i) => x * columns[i]) : v
}
