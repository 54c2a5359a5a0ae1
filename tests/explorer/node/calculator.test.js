/** What the page asks of the calculator and gets: the newest request wins, hosts that forbid things, damage, memory. */
import assert from 'node:assert/strict'
import {test} from 'node:test'
import {setTimeout as wait} from 'node:timers/promises'
import {Worker as Thread} from 'node:worker_threads'
import {calculator} from '../../../src/tokenrank/explorer/page/calculator.js'
import {workerSource} from '../../../src/tokenrank/explorer/page/engine.js'
import {here, kernel, random, walked} from './page.js'

const one = [[0, 1]], two = [[0, 1], [1, 2]]

/** A browser's worker out of one of Node's: the text of a blob, and events. */
class Worker {
  constructor(url) {
    this.thread = new Thread("const {parentPort, workerData} = require('node:worker_threads')\n"
      + 'globalThis.postMessage = (m, t) => parentPort.postMessage(m, t)\nglobalThis.onmessage = null\n'
      + 'parentPort.on("message", data => globalThis.onmessage({data}));\n(0, eval)(workerData)', {eval: true, workerData: Worker.text})
    this.thread.on('message', data => this.onmessage?.({data}))
    this.thread.on('error', error => this.onerror?.({message: error.message, preventDefault() {}}))
    Worker.made.push({url, thread: this.thread})
  }
  postMessage(data, transfer) { this.thread.postMessage(data, transfer) }
  terminate() { return this.thread.terminate() }
}

/** While `globalThis.Worker` is another. */
async function among(worker, text, act) {
  Object.assign(Worker, {made: [], text})
  globalThis.Worker = worker
  try {
    await act()
  } finally {
    delete globalThis.Worker
    for (const {thread} of Worker.made) await thread.terminate()
  }
}

test('n = 0 and 1 are there before the chain is', async () => {
  const made = here(false), layer = random({count: 900, size: 64})
  await made.layer('a', ...layer)
  const parts = []
  const built = made.chain({key: 'a', heads: two}, part => parts.push(part))
  const {all, walk} = await walked(made, {starts: [3]})
  assert.equal(all[0].ready, 2)
  assert.equal(all[0].limit, null)
  assert(all[0].maps.subarray(0, 1800).every((x, i) => Math.abs(x - walk.maps[i]) < 1e-8))
  assert(await built)
  assert(parts.length > 1 && parts.every((part, i) => part > 0 && part <= 1 && (!i || part > parts[i - 1])), String(parts))
  const back = await walked(made, {starts: [3], direction: 'backward'})
  assert.equal(back.all.at(-1).ready, 21)
})

test('backward before the chain is there, n = 0 alone', async () => {
  const made = here(false)
  await made.layer('a', ...random({count: 300, size: 64}))
  made.chain({key: 'a', heads: two})
  const {all} = await walked(made, {starts: [3], direction: 'backward'})
  assert.equal(all[0].ready, 1)
})

test('a long walk is told in parts', async () => {
  const made = here(false)
  await made.layer('a', ...random({count: 2000}))
  await made.chain({key: 'a', heads: one})
  const {all, walk} = await walked(made, {starts: [3], alpha: 0.999})
  const ready = all.map(part => part.ready)
  assert(ready.length > 2 && ready.every((n, i) => n > 2 && (!i || n >= ready[i - 1])), String(ready))
  assert.deepEqual(all.slice(0, -1).map(part => part.limit), Array(all.length - 1).fill(null))
  for (const {maps, ready} of all) assert.deepEqual(maps.subarray(0, ready * 2000), walk.maps.subarray(0, ready * 2000))
})

test('the map that is shown is told as soon as it is there', async () => {
  const made = here(false)
  await made.layer('a', ...random({count: 2600}))
  await made.chain({key: 'a', heads: one})
  const {all} = await walked(made, {starts: [3], shown: 8})
  const {ready} = all.find(part => part.ready > 8)
  assert(ready < 12, `told with ${all.map(part => part.ready)}`) // 12: without being asked for
})

test('the newest walk wins', async () => {
  const made = here()
  await made.layer('a', ...random({count: 64}))
  made.chain({key: 'a', heads: one})
  const answers = []
  const done = await Promise.all([...Array(30).keys()].map(start =>
    made.walk({starts: [start], direction: 'forward', alpha: 0.9, bounces: 3}, () => answers.push(start))))
  assert.deepEqual(done, [...Array(29).fill(false), true])
  assert(answers.length >= 1 && answers.every(start => start === 29), String(answers))
})

test('the newest chain wins, and what it took the place of stops', async () => {
  const made = here(false)
  await made.layer('a', ...random({count: 2000, size: 64}))
  let late = 0
  const first = made.chain({key: 'a', heads: two}, () => late++)
  const lost = made.walk({starts: [0], direction: 'forward', alpha: 0.9, bounces: 3}, () => late++)
  while (late < 3) await wait(1)
  const seen = late, start = performance.now()
  const second = made.chain({key: 'a', heads: one, keep: Array.from({length: 2000}, (_, i) => i < 20)})
  assert.deepEqual([await first, await lost, await second], [false, false, true])
  const took = performance.now() - start
  await wait(60)
  assert.equal(late, seen, 'nothing is told of what was replaced')
  assert(took < 1000, `${took} ms`) // 20 rows; all 2,000 take 1,600
})

test('a walk on the same chain does not build it again', async () => {
  const made = here(false)
  await made.layer('a', ...random({count: 900, size: 64}))
  const parts = [], built = made.chain({key: 'a', heads: one}, part => parts.push(part))
  for (let i = 0; i < 5; i++) {
    made.walk({starts: [i], direction: 'forward', alpha: 0.9, bounces: 3}, () => {})
    await wait(30)
  }
  assert(await built)
  assert(parts.every((part, i) => !i || part > parts[i - 1]), String(parts))
})

test('the main thread has turns while a chain is built', async () => {
  const made = here()
  await made.layer('a', ...random({count: 3000, heads: 2, size: 64}))
  let beats = 0, on = true
  const beat = () => {
    beats++
    if (on) setImmediate(beat)
  }
  beat()
  made.chain({key: 'a', heads: two})
  await walked(made, {starts: [3]})
  on = false
  assert(beats > 3, `${beats} turns`)
})

test('damage is said in a sentence', async () => {
  const made = here(), [stored, count, bytes] = random({count: 20})
  const broken = (change, text) => {
    const copy = bytes.slice()
    change(copy)
    return assert.rejects(made.layer('broken', stored, count, copy), text)
  }
  for (const scale of [0x7fc0, 0x7f80, 0xff80]) { // NaN, ∞, −∞
    await broken(copy => new DataView(copy.buffer).setUint16(4 * 2 * 20 * 16 + 2 * 7, scale, true), /token 7 is .*, not finite/)
  }
  await assert.rejects(made.layer('short', stored, count, bytes.subarray(0, 100)), /100 bytes, expected .* not whole/)
  await assert.rejects(made.layer('type', {...stored, type: 'float8'}, count, bytes), /float8, expected int16/)
  await assert.rejects(made.layer('shared', {...stored, heads: [0, 1, 2], keyHeads: 2}, count, bytes), /3 heads share 2/)
  assert.deepEqual(['broken', 'short', 'type'].map(made.has), [false, false, false])
  await made.layer('a', stored, count, bytes)
  assert(made.has('a'))
  await assert.rejects(made.chain({key: 'b', heads: one}), /Layer b is not here/)
  await assert.rejects(made.chain({key: 'a', heads: [[5, 1]]}), /Head 5 is not in the page/)
  await assert.rejects(made.chain({key: 'a', heads: [[0, 0]]}), /weigh 0/)
  await assert.rejects(made.chain({key: 'a', heads: one, keep: Array(20).fill(0)}), /No token is left/)
  assert.equal((await walked(made, {starts: [0]})).whole, false, 'no chain, no walk')
  await made.chain({key: 'a', heads: one, keep: Array.from({length: 20}, (_, i) => i > 3)})
  await assert.rejects(walked(made, {starts: [2]}), /Token 2 is left out/)
  await assert.rejects(walked(made, {starts: []}), /no token to start from/)
  assert((await walked(made, {starts: [4]})).whole, 'and the chain is still there')
  const copy = bytes.slice()
  new Uint16Array(copy.buffer, 4 * 2 * 20 * 16).fill(0x7a67) // 3e35
  await made.layer('huge', stored, count, copy)
  await assert.rejects(made.chain({key: 'huge', heads: one}), /scores of token 0 are not finite/)
})

test('a token that sends nothing to those that are left, and one that nobody attends to', async () => {
  const made = here(), roots = new Uint16Array([0, 9, 0, /**/ 0, 5, 5, /**/ 7, 0, 7, 0]), bytes = new Uint8Array(20)
  bytes.set(new Uint8Array(roots.buffer))
  const stored = {...random({count: 3})[0], kind: 'weights', type: 'uint16', size: 0, heads: [0], keyHeads: 1}
  await made.layer('w', stored, 3, bytes)
  await assert.rejects(made.chain({key: 'w', heads: one, keep: [1, 0, 1]}), /Token 0 sends no probability/)
  bytes.set(new Uint8Array(new Uint16Array([0, 9, 0, 0, 5, 5, 0, 7, 7]).buffer))
  await made.layer('w', stored, 3, bytes)
  assert(await made.chain({key: 'w', heads: one}))
  await assert.rejects(walked(made, {starts: [1], direction: 'backward'}), /Token 0 is attended to by nobody/)
  const {walk} = await walked(made, {starts: [2], bounces: 1, alpha: 1})
  assert.deepEqual([...walk.maps], [0, 0, 1, 0, 0.5, 0.5])
})

test('beyond 6,000 tokens one bounce', async () => {
  const made = here()
  await made.layer('long', ...random({count: 6001, heads: 1, size: 2}))
  assert(await made.chain({key: 'long', heads: one}))
  const {all, whole, walk} = await walked(made, {starts: [5], alpha: 1})
  assert(whole)
  assert.deepEqual([all.length, walk.ready, walk.limit], [1, 2, null])
  const sum = walk.maps.subarray(6001, 12002).reduce((a, b) => a + b, 0)
  assert(Math.abs(sum - 1) < 1e-5)
})

test('a worker, and the same without', async () => {
  const layer = random({count: 50}), walks = []
  await among(Worker, workerSource(), async () => {
    for (const worker of [true, false]) {
      const made = calculator(kernel, {worker, patience: 60000})
      await made.layer('a', ...layer)
      made.chain({key: 'a', heads: two})
      walks.push((await walked(made, {starts: [1]})).walk)
      assert.deepEqual([made.worker, made.wasm, made.why], [worker, true, ''])
      const waiting = made.walk({starts: [2], direction: 'forward', alpha: 0.5, bounces: 20}, () => assert.fail('told after the stop'))
      made.stop()
      assert.equal(await waiting, false)
    }
  })
  assert.deepEqual(walks[0], walks[1])
})

for (const [name, worker, text, patience, why] of [
  ['workers throw', class { constructor() { throw new Error('refused by a policy') } }, '', 60000, /refused by a policy/],
  ['workers do not answer', Worker, 'globalThis.onmessage = () => {}', 100, /did not answer/],
  ['workers fail', Worker, 'throw new Error("not here")', 60000, /not here/],
]) {
  test(`${name}: the main thread`, async () => {
    await among(worker, text, async () => {
      const made = calculator(kernel, {patience})
      await made.layer('a', ...random({count: 50}))
      made.chain({key: 'a', heads: two})
      assert((await walked(made, {starts: [1]})).whole)
      assert.deepEqual([made.worker, made.wasm], [false, true])
      assert.match(made.why, why)
    })
  })
}

test('a worker that ends later: what was asked says so, and the main thread goes on', async () => {
  await among(Worker, workerSource() + '\nconst whole = receive\nonmessage = e => { if (e.data.op === "walk") throw new Error("gone"); whole(e.data) }', async () => {
    const made = calculator(kernel, {patience: 60000}), layer = random({count: 50})
    await made.layer('a', ...layer)
    assert(await made.chain({key: 'a', heads: two}))
    await assert.rejects(walked(made, {starts: [1]}), /The worker ended \(gone\)/)
    assert.deepEqual([made.worker, made.has('a')], [false, false])
    await made.layer('a', ...layer)
    made.chain({key: 'a', heads: two})
    assert((await walked(made, {starts: [1]})).whole)
  })
})

test('WebAssembly that is forbidden is said', async () => {
  const real = WebAssembly.Module
  WebAssembly.Module = function () { throw new Error('a policy') }
  try {
    const made = here()
    await made.ready
    assert.equal(made.wasm, false)
    assert.equal(made.why, 'no WebAssembly with SIMD here')
  } finally {
    WebAssembly.Module = real
  }
})

test('bytes stay with the page, and may begin anywhere', async () => {
  const made = here(), [stored, count, bytes] = random({count: 30}), walks = []
  for (const shift of [0, 1, 3]) {
    const moved = new Uint8Array(bytes.length + shift).subarray(shift)
    moved.set(bytes)
    await made.layer('a', stored, count, moved)
    assert.equal(moved.length, bytes.length)
    made.chain({key: 'a', heads: two})
    walks.push((await walked(made, {starts: [1]})).walk)
  }
  assert.deepEqual(walks[0], walks[2])
  assert.deepEqual(walks[0], walks[1])
})

test('the oldest layers are let go of, the one in use is not', async () => {
  const made = here(), size = 640, wide = random({count: 100, heads: 64, size}) // 16 MB
  for (const key of ['a', 'b', 'c']) await made.layer(key, ...wide)
  assert(await made.chain({key: 'a', heads: one}))
  for (const key of ['d', 'e', 'f']) await made.layer(key, ...wide)
  assert.deepEqual(['a', 'b', 'c', 'd', 'e', 'f'].map(made.has), [true, false, false, false, true, true])
  assert((await walked(made, {starts: [1]})).whole)
})

test('memory is flat over 200 changes of the head and 30 of the layer', async () => {
  const made = here()
  await made.layer('a', ...random({count: 400, heads: 2}))
  await made.layer('b', ...random({count: 100, heads: 2}))
  const used = () => {
    globalThis.gc?.()
    const {arrayBuffers, heapUsed, rss} = process.memoryUsage()
    return {arrayBuffers, heapUsed, rss}
  }
  const change = async (key, head) => {
    made.chain({key, heads: [[head, 1]]})
    assert((await walked(made, {starts: [head]})).whole)
  }
  for (let i = 0; i < 20; i++) await change('a', i % 2)
  const before = used()
  for (let i = 0; i < 200; i++) await change('a', i % 2)
  for (let i = 0; i < 30; i++) await change(i % 2 ? 'a' : 'b', 0)
  const after = used()
  assert(after.arrayBuffers - before.arrayBuffers < 4e6, JSON.stringify([before, after]))
  assert(after.heapUsed - before.heapUsed < 4e6, JSON.stringify([before, after]))
  assert(after.rss - before.rss < 60e6, JSON.stringify([before, after]))
})
