/**
 * The arithmetic of the page: layers come in, chains are made of their heads, walks on them go out.
 *
 * It runs in a worker, of which `workerSource` is the text, or on the main thread where workers are forbidden. It knows
 * nothing of the page. Work is done by generators that pause when their slice of time is over; a newer request takes the
 * place of the work in progress, and what was built of the chain stays.
 *
 * Single precision: scores, exponentials, the matrix. Double: sums of rows and columns, walks between steps, limits.
 */
import {bounced, columnSums, limitOf, multiplied} from './bounce.js'
import {heldLayer, packKeys, placesOf} from './held.js'
import {plainKernel} from './kernel.js'
import {extrapolated, substituted} from './limit.js'
import {keptRows, mixedRows} from './rows.js'
import {firstBounce, saying, walkOf} from './walk.js'

/** @typedef {import('./rows.js').Chain} Chain */

/** The text of a worker that is the engine. */
export function workerSource() {
  const parts = [plainKernel, heldLayer, placesOf, packKeys, mixedRows, keptRows, extrapolated, substituted, multiplied,
    columnSums, bounced, limitOf, saying, firstBounce, walkOf, engine]
  return ["'use strict'", ...parts, 'const receive = engine((answer, transfer) => postMessage(answer, transfer))',
    'onmessage = event => receive(event.data)'].join('\n')
}

/**
 * @param {(answer: any, transfer?: Transferable[]) => void} post  Where answers go.
 * @returns {(request: any) => void}  Takes requests.
 */
export function engine(post) {
  // milliseconds of a slice; tokens up to which there is a matrix
  const SLICE = 16, WALKED = 6000
  /** @type {WebAssembly.Module | null} */
  let code = null
  /** @type {import('./held.js').Machine | null} */
  let machine = null
  /** @type {Map<string, import('./held.js').Held>} */
  const layers = new Map()
  /** @type {Chain | null} */
  let chain = null
  /** @type {Generator<void, void> | null} */
  let task = null
  let running = false, began = 0, walked = 0

  const late = () => performance.now() - began > SLICE

  /** @param {unknown} error */
  const words = error => error instanceof Error ? error.message : String(error)

  /** Lets messages in. @returns {Promise<void>} */
  const pause = () => new Promise(go => {
    const {port1, port2} = new MessageChannel()
    port1.onmessage = () => {
      port1.close()
      go()
    }
    port2.postMessage(0)
  })

  /** Memory of so many bytes: what there is, unless it is too small or more than twice too large. @param {number} bytes */
  function machineOf(bytes) {
    const has = machine ? machine.f.byteLength : 0
    if (machine && has >= bytes && has < 2 * bytes + 4e6) return machine
    // let go of before the next is made
    machine = null
    try {
      const wasm = code && /** @type {any} */ (new WebAssembly.Instance(code).exports)
      wasm?.memory.grow(Math.ceil(bytes / 65536))
      const buffer = wasm ? wasm.memory.buffer : new ArrayBuffer(bytes)
      const f = new Float32Array(buffer), g = new Float64Array(buffer)
      return machine = {kernel: wasm ?? plainKernel(f, g), f, g, keys: null}
    } catch {
      throw new Error(`This chain takes ${Math.ceil(bytes / 2 ** 20)} MB, more than the browser gives; leave out tokens.`)
    }
  }

  /**
   * A chain of which no row is built yet.
   *
   * @param {{id: number, key: string, heads: [number, number][], keep?: ArrayLike<number | boolean> | null}} request
   */
  function begin({id, key, heads, keep}) {
    chain = task = null
    const held = layers.get(key)
    if (!held) throw new Error(`Layer ${key} is not here, expected it to be handed over first.`)
    const total = heads.reduce((sum, [, weight]) => sum + weight, 0)
    if (!(total > 0 && total < Infinity)) throw new Error(`The heads weigh ${total}, expected more than zero; choose others.`)
    const chosen = heads.filter(([, weight]) => weight > 0).map(([head, weight]) => {
      const place = held.stored.heads.indexOf(head)
      if (place < 0) throw new Error(`Head ${head} is not in the page; choose another.`)
      return /** @type {[number, number]} */ ([place, weight / total])
    })
    const kept = Int32Array.from(Array(held.count).keys()).filter(token => !keep || keep[token])
    const size = kept.length, whole = size <= WALKED, at = placesOf(held, size, whole)
    if (!size) throw new Error('No token is left; leave out fewer.')
    const made = machineOf(at.end)
    packKeys(held, at, made)
    if (whole) made.f.fill(0, (at.matrix + size * at.stride) / 4, at.end / 4)
    chain = {id, held, heads: chosen, kept, size, whole, at, late, machine: made, done: 0, columns: null, limits: new Map()}
    return chain
  }

  /** @param {Chain} c @returns {Generator<void, void>} */
  function* build(c) {
    const few = new Int32Array(4)
    while (c.whole && c.done < c.size) {
      const tokens = few.subarray(0, Math.min(4, c.size - c.done))
      tokens.set(c.kept.subarray(c.done, c.done + 4))
      keptRows(c, tokens, c.at.matrix + c.done * c.at.stride)
      c.done += tokens.length
      if (!late()) continue
      post({op: 'progress', id: c.id, part: c.done / c.size})
      yield
    }
    post({op: 'chain', id: c.id})
  }

  /** One slice after another, until the task is done or another has taken its place. */
  async function run() {
    if (running) return
    running = true
    while (task) {
      // what came meanwhile is read first, so that the newest request is the one that is worked on
      await pause()
      const now = task
      began = performance.now()
      try {
        if (now?.next().done && task === now) task = null
      } catch (error) {
        const built = chain && chain.done === chain.size
        if (chain) post({op: 'failed', id: built ? walked : chain.id, why: words(error)})
        if (!built) chain = null
        if (task === now) task = null
      }
    }
    running = false
  }

  /** @type {Record<string, (request: any) => void>} */
  const requests = {
    kernel({bytes}) {
      try {
        code = bytes && new WebAssembly.Module(bytes)
      } catch {
        code = null
      }
      post({op: 'ready', wasm: !!code})
    },
    layer({id, key, stored, count, buffer}) {
      layers.set(key, heldLayer(stored, count, buffer))
      post({op: 'layer', id})
    },
    drop({key}) {
      const held = layers.get(key)
      layers.delete(key)
      if (machine && machine.keys === held) machine.keys = null
      if (chain && chain.held === held) chain = task = null
    },
    chain(request) {
      task = build(begin(request))
    },
    walk(request) {
      walked = request.id
      if (!chain) return post({op: 'nothing', id: walked})
      const {kept} = chain, {starts} = request
      if (!starts.length) throw new Error('There is no token to start from; choose one.')
      for (const start of starts) {
        if (!kept.includes(start)) throw new Error(`Token ${start} is left out; start at another.`)
      }
      task = walkOf(chain, request, build(chain), post)
    },
  }

  return request => {
    try {
      requests[request.op](request)
    } catch (error) {
      post({op: 'failed', id: request.id, why: words(error)})
    }
    run()
  }
}
