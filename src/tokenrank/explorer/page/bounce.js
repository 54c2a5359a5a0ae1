/**
 * Steps of a chain that is built, and where they end. Generators that pause when a slice of time is over.
 *
 * @typedef {import('./rows.js').Chain} Chain
 * @typedef {import('./limit.js').Limit} Limit
 */
import {extrapolated, substituted} from './limit.js'

/**
 * vA; backward A(v / columns), which is vB.
 *
 * @param {Chain} chain
 * @param {Float64Array} v
 * @param {boolean} back
 * @returns {Generator<void, Float64Array>}
 */
export function* multiplied({size, at, columns, held, late, machine: {kernel, f, g}}, v, back) {
  const from = at.v / 4, to = at.out / 8, grow = held.stored.causal ? 32 : 0
  f.set(back && columns ? v.map((x, i) => x / columns[i]) : v, from)
  f.fill(0, from + size, from + at.stride / 4)
  g.fill(0, to, to + at.stride / 4)
  // about a million entries between two looks at the clock
  const rows = (size + 7) & ~7, most = Math.max(8, (2 ** 20 / rows) & ~7)
  for (let i = 0; i < rows; i += most) {
    const n = Math.min(most, rows - i), matrix = at.matrix + i * at.stride, width = grow ? 4 * i + 32 : at.stride
    if (back) kernel.Ax(at.v, matrix, at.stride, n, width, grow, at.out + 8 * i)
    else kernel.vA(at.v + 4 * i, matrix, at.stride, n, width, grow, at.out)
    if (late()) yield
  }
  return g.slice(to, to + size)
}

/**
 * Sums the columns, by which going back divides.
 *
 * @param {Chain} chain
 * @returns {Generator<void, void>}
 */
export function* columnSums(chain) {
  if (chain.columns) return
  const columns = yield* multiplied(chain, new Float64Array(chain.size).fill(1), false)
  // below, single precision has lost what the column was
  const bad = columns.findIndex(x => !(x > 1e-30))
  if (bad >= 0) throw new Error(`Token ${chain.kept[bad]} is attended to by nobody: no way leads back from it; leave it out.`)
  chain.columns = columns
}

/**
 * One step with teleport; mass stays one.
 *
 * @param {Chain} chain
 * @param {Float64Array} v
 * @param {boolean} back
 * @param {number} alpha
 * @returns {Generator<void, Float64Array>}
 */
export function* bounced(chain, v, back, alpha) {
  const y = yield* multiplied(chain, v, back), mass = y.reduce((a, b) => a + b)
  return y.map(x => alpha * x / mass + (1 - alpha) / chain.size)
}

/**
 * TokenRank: by substitution where the chain is causal; then, and otherwise from an even start, steps and extrapolations
 * until a step changes no more than single precision does.
 *
 * @param {Chain} chain
 * @param {boolean} back
 * @param {number} alpha
 * @returns {Generator<void, Limit>}
 */
export function* limitOf(chain, back, alpha) {
  const reached = 3e-8, steps = 1000, together = 8, {size} = chain
  /** @type {Float64Array} */
  let v = new Float64Array(size).fill(1 / size)
  let residual = 1
  if (chain.held.stored.causal && alpha < 1) v = substituted(chain, back, alpha)
  for (let n = 0; n < steps && residual > reached;) {
    const seen = [v]
    while (seen.length < together && residual > reached) {
      const next = yield* bounced(chain, v, back, alpha), now = v
      residual = next.reduce((sum, x, i) => sum + Math.abs(x - now[i]), 0)
      seen.push(v = next)
      n++
    }
    if (residual > reached) v = extrapolated(seen)
  }
  return {values: v, residual, converged: residual <= reached}
}
