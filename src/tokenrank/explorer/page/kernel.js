/**
 * The functions of kernel.wat in plain JavaScript, for pages where WebAssembly is forbidden; slower, and the same to 1e-6.
 *
 * @typedef {(v: number, matrix: number, stride: number, rows: number, width: number, grow: number, out: number) => void} Product
 * @typedef {object} Kernel  Pointers and strides are in bytes.
 * @property {(queries: number, keys: number, size: number, blocks: number, out: number, stride: number) => void} scores
 * @property {(scores: number, n: number, row: number, weight: number) => number} softmax
 * @property {Product} vA
 * @property {Product} Ax
 */

/**
 * @param {Float32Array} f  The memory.
 * @param {Float64Array} g  The same memory.
 * @returns {Kernel}
 */
export function plainKernel(f, g) {
  return {
    scores(queries, keys, size, blocks, out, stride) {
      // two keys and four queries at a time stay in registers
      for (let pair = 0; pair < blocks * 4; pair++) {
        let a = 0, b = 0, c = 0, d = 0, e = 0, h = 0, i = 0, l = 0
        let k = keys / 4 + (pair >> 2) * size * 8 + (pair & 3) * 2
        for (let q = queries / 4, end = q + size * 4; q < end; q += 4, k += 8) {
          const x = f[k], y = f[k + 1], s = f[q], t = f[q + 1], u = f[q + 2], v = f[q + 3]
          a += x * s
          b += x * t
          c += x * u
          d += x * v
          e += y * s
          h += y * t
          i += y * u
          l += y * v
        }
        const to = out / 4 + pair * 2, next = stride / 4
        f[to] = a
        f[to + 1] = e
        f[to + next] = b
        f[to + next + 1] = h
        f[to + 2 * next] = c
        f[to + 2 * next + 1] = i
        f[to + 3 * next] = d
        f[to + 3 * next + 1] = l
      }
    },
    softmax(scores, n, row, weight) {
      const from = scores / 4, to = row / 4
      let most = f[from], sum = 0
      for (let j = 1; j < n; j++) most = Math.max(most, f[from + j])
      for (let j = from; j < from + n; j++) {
        const x = f[j] - most
        sum += f[j] = x <= -87 ? 0 : Math.exp(x)
      }
      for (let j = 0; j < n; j++) f[to + j] += f[from + j] * (weight / sum)
      return sum
    },
    vA(v, matrix, stride, rows, width, grow, out) {
      for (let i = 0; i < rows; i++) {
        const x = f[v / 4 + i], a = (matrix + i * stride) / 4, o = out / 8, end = (width + (i >> 3) * grow) / 4
        if (x) for (let j = 0; j < end; j++) g[o + j] += x * f[a + j]
      }
    },
    Ax(x, matrix, stride, rows, width, grow, out) {
      for (let i = 0; i < rows; i++) {
        const a = (matrix + i * stride) / 4, o = x / 4, end = (width + (i >> 3) * grow) / 4
        let sum = 0
        for (let j = 0; j < end; j++) sum += f[a + j] * f[o + j]
        g[out / 8 + i] = sum
      }
    },
  }
}
