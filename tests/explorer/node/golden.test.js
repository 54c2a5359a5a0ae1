/** The engine against float64 answers from Python (golden.py), with WebAssembly and without. */
import assert from 'node:assert/strict'
import {readFileSync} from 'node:fs'
import {join} from 'node:path'
import {test} from 'node:test'
import {here, walked} from './page.js'

const folder = process.env.TOKENRANK_GOLDEN
assert(folder, 'TOKENRANK_GOLDEN names the folder that golden.py wrote')
const cases = JSON.parse(readFileSync(join(folder, 'cases.json'), 'utf8'))
const slices = readFileSync(join(folder, 'slices.bin')), answers = readFileSync(join(folder, 'answers.bin'))
const makers = {wasm: here(true), plain: here(false)}

/** Largest and summed difference, the largest sum of any `count` in turn. */
function apart(a, b, count) {
  let most = 0, sum = 0
  for (let i = 0; i < a.length; i += count) {
    let row = 0
    for (let j = i; j < i + count; j++) {
      const e = Math.abs(a[j] - b[j])
      assert(e >= 0, `a[${j}] = ${a[j]}, b[${j}] = ${b[j]}`)
      most = Math.max(most, e)
      row += e
    }
    sum = Math.max(sum, row)
  }
  return {most, sum}
}

test('with WebAssembly and without', async () => {
  await makers.wasm.ready
  await makers.plain.ready
  assert.deepEqual([makers.wasm.wasm, makers.plain.wasm, makers.wasm.worker], [true, false, false])
})

for (const {name, stored, count, at, length, heads, starts, keep, asked} of cases) {
  test(name, async () => {
    const found = {}
    for (const [kind, made] of Object.entries(makers)) {
      await made.layer(name, stored, count, slices.subarray(at, at + length))
      const built = made.chain({key: name, heads, keep})
      found[kind] = []
      for (const {alpha, direction, at} of asked) {
        const {walk, all, whole} = await walked(made, {starts, alpha, direction})
        assert(whole)
        assert(walk.converged, `${kind} ${direction} ${alpha}: residual ${walk.residual}`)
        assert.deepEqual([walk.count, walk.ready, walk.maps.length], [count, 21, 21 * count])
        const right = new Float64Array(answers.buffer.slice(answers.byteOffset + at, answers.byteOffset + at + 22 * 8 * count))
        const maps = right.subarray(0, 21 * count), limit = right.subarray(21 * count)
        const one = apart(walk.maps, maps, count), end = apart(walk.limit, limit, count)
        if (process.env.TOKENRANK_LOUD) console.log(kind, name, direction, alpha, one, end)
        assert(one.most <= 5e-7 && one.sum <= 3e-6, `${kind} ${direction} ${alpha}: maps off by ${one.most}, ${one.sum}`)
        assert(end.most <= 5e-6 && end.sum <= 1e-5, `${kind} ${direction} ${alpha}: limit off by ${end.most}, ${end.sum}`)
        walk.distance.forEach((distance, n) => {
          const tv = apart(maps.subarray(n * count, (n + 1) * count), limit, count).sum / 2
          assert(Math.abs(distance - tv) <= 1e-5, `${kind} ${direction} ${alpha}: distance ${n} is ${distance}, not ${tv}`)
        })
        for (const first of all) { // what was told before the whole is the same, as far as it goes
          const part = first.ready * count
          assert(apart(first.maps.subarray(0, part), maps.subarray(0, part), count).most <= 5e-7)
        }
        found[kind].push(walk)
      }
      assert(await built)
    }
    found.wasm.forEach((walk, i) => {
      assert(apart(walk.maps, found.plain[i].maps, count).most <= 1e-6)
      assert(apart(walk.limit, found.plain[i].limit, count).most <= 1e-6)
    })
  })
}
