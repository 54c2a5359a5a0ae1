/**
 * A layer as it came in, and where a chain of it lies in memory.
 *
 * @typedef {import('./types.js').Stored} Stored
 * @typedef {Int16Array | Int8Array | Uint16Array | Uint8Array} Integers
 * @typedef {object} Held
 * @property {Stored} stored
 * @property {number} count  Tokens, N.
 * @property {Integers} q  (heads, N, d); roots of weights (heads, N, N).
 * @property {Integers} k  (keyHeads, N, d); empty for weights.
 * @property {Float32Array} qs  Scales of the rows of q; empty for weights.
 * @property {Float32Array} ks
 *
 * @typedef {{kernel: import('./kernel.js').Kernel, f: Float32Array, g: Float64Array, keys: Held | null}} Machine
 *   Memory in single and double, what works on it, and the layer whose keys are in it.
 * @typedef {ReturnType<typeof placesOf>} Places
 */

/**
 * Arrays over the bytes of a layer.
 *
 * @param {Stored} stored
 * @param {number} count
 * @param {ArrayBuffer} buffer  The slice `stored.bytes`.
 * @returns {Held}
 */
export function heldLayer(stored, count, buffer) {
  const {kind, type, size, keyHeads} = stored, heads = stored.heads.length, qk = kind === 'qk'
  const Type = {int16: Int16Array, int8: Int8Array, uint16: Uint16Array, uint8: Uint8Array}[type]
  if (!Type) throw new Error(`The layer is stored as ${type}, expected int16, int8, uint16 or uint8.`)
  if (qk && heads % keyHeads) throw new Error(`${heads} heads share ${keyHeads} heads of keys, expected equally many each.`)
  let end = 0
  /** @param {any} A @param {number} length */
  const part = (A, length) => {
    if (!length) return new A(0)
    const at = (end + 3) & ~3
    end = at + length * A.BYTES_PER_ELEMENT
    if (end <= buffer.byteLength) return new A(buffer, at, length)
    throw new Error(`The layer has ${buffer.byteLength} bytes, expected ${end}: the page is not whole; write it again.`)
  }
  const q = part(Type, heads * count * (qk ? size : count)), k = part(Type, qk ? keyHeads * count * size : 0)
  // bfloat16: the upper halves of single precision
  const [qs, ks] = [heads, keyHeads].map(rows =>
    new Float32Array(Uint32Array.from(part(Uint16Array, qk ? rows * count : 0), half => half << 16).buffer))
  for (const scales of [qs, ks]) {
    const bad = scales.findIndex((/** @type {number} */ x) => !Number.isFinite(x))
    if (bad < 0) continue
    throw new Error(`A scale of token ${bad % count} is ${scales[bad]}, not finite: the page is damaged; write it again.`)
  }
  return {stored, count, q, k, qs, ks}
}

/**
 * Where everything lies, in bytes. Keys come first, at the same place for every chain of a layer.
 *
 * @param {Held} held
 * @param {number} size  Tokens of the chain, those that are left.
 * @param {boolean} whole  Whether there is a matrix, or a few rows only.
 */
export function placesOf({stored, count}, size, whole) {
  let end = 0
  /** @param {number} bytes */
  const take = bytes => {
    const at = end
    end += (bytes + 63) & ~63
    return at
  }
  // rows are padded to sixteen numbers, the matrix to eight rows; a softmax overwrites four numbers behind its scores
  const stride = ((size + 15) & ~15) * 4, wide = ((count + 15) & ~15) * 4, block = ((count + 7) >> 3) * 32 * stored.size
  const keys = take(stored.kind === 'qk' ? stored.keyHeads * block : 0), queries = take(stored.size * 16)
  const scores = take(4 * (wide + 64)), rows = take(4 * wide), few = take(4 * stride)
  const v = take(stride), out = take(2 * stride), matrix = take(whole ? ((size + 7) & ~7) * stride : 0)
  return {stride, wide, block, keys, queries, scores, rows, few, v, out, matrix, end}
}

/**
 * Puts keys into memory in blocks of eight, (keyHeads, blocks, d, 8), with zeros behind the last.
 *
 * @param {Held} held
 * @param {Places} at
 * @param {Machine} machine
 */
export function packKeys(held, at, machine) {
  const {stored: {size, keyHeads}, count, k, ks} = held, {f} = machine
  if (machine.keys === held || !k.length) return
  f.fill(0, at.keys / 4, at.queries / 4)
  for (let row = 0, i = 0; row < keyHeads * count; row++) {
    const j = row % count, first = (at.keys + (row - j) / count * at.block) / 4 + (j >> 3) * 8 * size + (j & 7)
    for (let to = first; to < first + 8 * size; to += 8) f[to] = k[i++] * ks[row]
  }
  machine.keys = held
}
