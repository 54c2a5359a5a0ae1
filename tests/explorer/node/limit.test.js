/** Where walks end, each way of finding it alone: what a walk shows is made good by steps even where these fail. */
import assert from 'node:assert/strict'
import {test} from 'node:test'
import {extrapolated, substituted} from '../../../src/tokenrank/explorer/page/limit.js'

const sum = v => v.reduce((a, b) => a + b, 0)
const apart = (a, b) => sum(a.map((x, i) => Math.abs(x - b[i])))

/** A matrix of random rows, causal or not, and where a chain of it would lie. */
function chain(size, causal) {
  let state = 7
  const stride = ((size + 15) & ~15) * 4, f = new Float32Array(size * stride / 4)
  const columns = new Float64Array(size)
  for (let i = 0; i < size; i++) {
    const row = Float64Array.from({length: causal ? i + 1 : size}, () => (state = (state * 48271) % 2147483647) ** 3)
    row.forEach((x, j) => columns[j] += f[i * stride / 4 + j] = x / sum(row))
  }
  return {size, at: {stride, matrix: 0}, columns, machine: {f}}
}

/** One step with teleport, by the definition. */
function stepped({size, at, columns, machine: {f}}, v, back, alpha) {
  const to = new Float64Array(size).fill((1 - alpha) / size)
  for (let i = 0; i < size; i++) {
    for (let j = 0; j < size; j++) {
      const a = alpha * f[i * at.stride / 4 + j]
      if (back) to[i] += a * v[j] / columns[j]
      else to[j] += a * v[i]
    }
  }
  return to
}

for (const back of [false, true]) {
  test(`causal chains by substitution, ${back ? 'backward' : 'forward'}`, () => {
    for (const size of [1, 2, 5, 40]) {
      for (const alpha of [0.5, 0.99, 0.999]) {
        const made = chain(size, true), v = substituted(made, back, alpha)
        assert(Math.abs(sum(v) - 1) < 1e-4)
        assert(apart(stepped(made, v, back, alpha), v) < 1e-12)
      }
    }
  })
}

test('as many members as modes make the limit', () => {
  const made = chain(5, false), seen = [new Float64Array(5).fill(0.2)]
  for (let n = 0; n < 6; n++) seen.push(stepped(made, seen[n], false, 1))
  const v = extrapolated(seen), last = seen[6]
  assert(apart(stepped(made, v, false, 1), v) < apart(stepped(made, last, false, 1), last) / 10)
  assert(Math.abs(sum(v) - 1) < 1e-12 && v.every(x => x >= 0))
})

test('what cannot be extrapolated stays as it is', () => {
  const still = new Float64Array([0.25, 0.75])
  assert(apart(extrapolated([still, still, still]), still) < 1e-12)
})
