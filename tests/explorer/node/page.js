/** What the tests in Node share: the page's folder, its kernel, promises of whole walks. */
import {readFileSync} from 'node:fs'
import {calculator} from '../../../src/tokenrank/explorer/page/calculator.js'

export const PAGE = new URL('../../../src/tokenrank/explorer/page/', import.meta.url)
export const kernel = readFileSync(new URL('kernel.wasm', PAGE))

/** A calculator on the main thread. */
export const here = (wasm = true) => calculator(kernel, {worker: false, wasm})

/** The last walk of a request, and all that came before it. */
export async function walked(made, asked) {
  const all = []
  const whole = await made.walk({direction: 'forward', alpha: 0.99, bounces: 20, ...asked}, walk => all.push(walk))
  return {whole, all, walk: all.at(-1)}
}

/** A layer of random queries and keys: what `layer` is handed, without its key. */
export function random({count, heads = 2, size = 16, causal = false, seed = 1}) {
  let state = seed
  const number = () => (state = (state * 48271) % 2147483647) / 2147483647 - 0.5
  const n = heads * count * size, bytes = new Uint8Array(4 * n + 2 * (2 * heads * count + 3 & ~3))
  new Int16Array(bytes.buffer, 0, 2 * n).forEach((_, i, all) => all[i] = number() * 60000)
  new Uint16Array(bytes.buffer, 4 * n).fill(0x3851) // bfloat16 of 1 / 20000
  const stored = {kind: 'qk', type: 'int16', bytes: [0, bytes.length], size, heads: [...Array(heads).keys()], keyHeads: heads, causal,
    errors: {entry: 0, bounce: 0, tokenrank: 0}}
  return [stored, count, bytes]
}
