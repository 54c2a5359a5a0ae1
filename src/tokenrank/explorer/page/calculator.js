/**
 * What the page computes with: the engine in a worker, or on the main thread where workers are forbidden.
 */
import {engine, workerSource} from './engine.js'

/** Bytes of layers that are kept; beyond, the oldest are let go, but for the one in use. */
const HELD = 64e6

/**
 * @typedef {object} Calculator
 * @property {Promise<void>} ready  When `wasm`, `worker` and `why` are known.
 * @property {boolean} wasm
 * @property {boolean} worker
 * @property {string} why  Why there is no worker or no WebAssembly; empty where there are both.
 * @property {(key: string) => boolean} has  Whether the layer is here.
 * @property {(key: string, stored: import('./types.js').Stored, count: number, bytes: Uint8Array) => Promise<boolean>} layer
 *   Hands over a layer of `count` tokens, the slice `stored.bytes`. Rejects with a sentence where it cannot be read.
 * @property {(wanted: {key: string, heads: [number, number][], keep?: ArrayLike<number | boolean> | null},
 *   onprogress?: (part: number) => void) => Promise<boolean>} chain
 *   Makes the chain of heads, each with its weight, on the tokens that are kept (all of them by default). True when it is
 *   built, false when a newer one took its place; rejects with a sentence where it cannot be.
 * @property {(wanted: {starts: number[], direction: 'forward' | 'backward', alpha: number, bounces: number, shown?: number},
 *   onwalk: (walk: import('./types.js').Walk) => void) => Promise<boolean>} walk
 *   Walks on the newest chain; no need to wait until it is built. `onwalk` is called with what is there first, such as
 *   n = 0 and 1, with the map that is `shown` as soon as it is there, and with the whole in the end. False when a newer request took its place: it is not called any more.
 * @property {() => void} stop  Ends the worker; what was asked resolves to false.
 */

/**
 * @param {Uint8Array | null} kernelBytes  kernel.wasm; null: plain JavaScript.
 * @param {{worker?: boolean, wasm?: boolean, patience?: number}} [options]  Whether a worker and WebAssembly may be used;
 *   how many milliseconds a worker has to answer.
 * @returns {Calculator}
 */
export function calculator(kernelBytes, {worker: wanted = true, wasm = true, patience = 3000} = {}) {
  /** @type {Worker | null} */
  let thread = null
  /** @type {(request: any, transfer?: Transferable[]) => void} */
  let send = () => {}
  /** @type {Map<number, {op: string, resolve: (done: boolean) => void, reject: (e: Error) => void, told: (x: any) => void}>} */
  const open = new Map()
  /** @type {Map<string, number>} */
  const layers = new Map()
  const state = {wasm: false, worker: false, why: ''}
  let last = 0, stopped = false, used = ''
  /** @type {(value?: void) => void} */
  let known = () => {}
  /** @type {Promise<void>} */
  const ready = new Promise(resolve => { known = resolve })

  /** @param {any} answer */
  function take(answer) {
    if (answer.op === 'ready') {
      state.wasm = answer.wasm
      if (!answer.wasm && wasm && kernelBytes) state.why += `${state.why && '; '}no WebAssembly with SIMD here`
      return known()
    }
    const request = open.get(answer.id)
    if (!request) return
    if (answer.op === 'progress') return request.told(answer.part)
    if (answer.op === 'walk') {
      request.told(answer.walk)
      if (!answer.last) return
    }
    open.delete(answer.id)
    if (answer.op !== 'failed') return request.resolve(answer.op !== 'nothing')
    if (request.op === 'chain') replace('walk')
    request.reject(new Error(answer.why))
  }

  /** @param {string[]} ops  Requests that a newer one takes the place of. */
  function replace(...ops) {
    for (const [id, request] of open) {
      if (!ops.includes(request.op)) continue
      open.delete(id)
      request.resolve(false)
    }
  }

  /**
   * @param {string} op
   * @param {object} rest
   * @param {(x: any) => void} [told]
   * @param {Transferable[]} [transfer]
   * @returns {Promise<boolean>}
   */
  function ask(op, rest, told = () => {}, transfer = []) {
    const id = ++last
    return new Promise((resolve, reject) => {
      if (stopped) return resolve(false)
      open.set(id, {op, resolve, reject, told})
      ready.then(() => send({op, id, ...rest}, transfer))
    })
  }

  /** @param {string} why  Why there is no worker. */
  function here(why) {
    thread?.terminate()
    thread = null
    if (stopped) return
    Object.assign(state, {worker: false, why})
    const receive = engine(take)
    send = receive
    receive({op: 'kernel', bytes: wasm ? kernelBytes : null})
  }

  function begin() {
    if (!wanted) return here('')
    try {
      const url = URL.createObjectURL(new Blob([workerSource()], {type: 'text/javascript'}))
      const made = thread = new Worker(url)
      // an answer that came while the page was busy is read first
      let late = setTimeout(() => late = setTimeout(() => here('the worker did not answer'), 50), patience)
      made.onmessage = ({data}) => {
        clearTimeout(late)
        URL.revokeObjectURL(url)
        if (thread !== made) return
        state.worker = true
        take(data)
      }
      made.onerror = event => {
        event.preventDefault()
        clearTimeout(late)
        if (thread !== made) return
        if (state.worker) {
          layers.clear()
          for (const {reject} of open.values()) reject(new Error(`The worker ended (${event.message}); choose again.`))
          open.clear()
        }
        here(event.message || 'workers are forbidden here')
      }
      send = (request, transfer = []) => made.postMessage(request, transfer)
      send({op: 'kernel', bytes: wasm ? kernelBytes : null})
    } catch (error) {
      here(error instanceof Error ? error.message : String(error))
    }
  }

  begin()
  return {
    ready,
    get wasm() { return state.wasm },
    get worker() { return state.worker },
    get why() { return state.why },
    has: key => layers.has(key),
    layer(key, stored, count, bytes) {
      layers.delete(key)
      layers.set(key, bytes.byteLength)
      let sum = [...layers.values()].reduce((a, b) => a + b)
      for (const [old, size] of layers) {
        if (sum <= HELD) break
        if (old === key || old === used) continue
        sum -= size
        layers.delete(old)
        ready.then(() => send({op: 'drop', key: old}))
      }
      const {buffer} = new Uint8Array(bytes)
      return ask('layer', {key, stored, count, buffer}, undefined, [buffer]).catch(error => {
        layers.delete(key)
        throw error
      })
    },
    chain(asked, onprogress) {
      replace('chain', 'walk')
      used = asked.key
      return ask('chain', asked, onprogress)
    },
    walk(asked, onwalk) {
      replace('walk')
      return ask('walk', asked, onwalk)
    },
    stop() {
      stopped = true
      thread?.terminate()
      thread = null
      send = () => {}
      replace('layer', 'chain', 'walk')
    },
  }
}
