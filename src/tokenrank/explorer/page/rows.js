/**
 * Rows of the chain: heads mixed, tokens left out.
 *
 * @typedef {object} Chain
 * @property {number} id  Of the request.
 * @property {import('./held.js').Held} held
 * @property {[number, number][]} heads  Place among the stored heads, and weight; the weights sum to one.
 * @property {Int32Array} kept  Tokens that are left, increasing.
 * @property {number} size  How many.
 * @property {boolean} whole  Whether it will have a matrix; otherwise rows of a start alone.
 * @property {import('./held.js').Places} at
 * @property {import('./held.js').Machine} machine
 * @property {number} done  Rows that are built.
 * @property {() => boolean} late  Whether the slice of time is over.
 * @property {Float64Array | null} columns  Sums of the columns.
 * @property {Map<string, import('./limit.js').Limit>} limits
 */

/**
 * Rows of at most four tokens over all tokens.
 *
 * @param {Chain} chain
 * @param {Int32Array} tokens
 * @param {number} out  Where the first begins; the others `wide` bytes further each.
 */
export function mixedRows({held, heads, at, machine: {kernel, f}}, tokens, out) {
  const {stored, count, q, qs} = held, {size, causal} = stored, apart = at.wide + 64
  const last = causal ? Math.max(...tokens) + 1 : count
  f.fill(0, out / 4, (out + tokens.length * at.wide) / 4)
  for (const [place, weight] of heads) {
    tokens.forEach((token, r) => {
      const row = place * count + token
      if (stored.kind === 'qk') {
        for (let i = row * size, to = at.queries / 4 + r; i < (row + 1) * size; i++, to += 4) f[to] = q[i] * qs[row]
        return
      }
      // weights are squares of what is stored, divided by the sum of their row
      let sum = 0
      for (let i = row * count; i < (row + 1) * count; i++) sum += q[i] * q[i]
      if (!sum) throw new Error(`Token ${token} attends to nothing: the page is damaged; write it again.`)
      const first = (out + r * at.wide) / 4
      for (let j = 0, i = row * count; j < count; j++, i++) f[first + j] += q[i] * q[i] * (weight / sum)
    })
    if (stored.kind !== 'qk') continue
    const key = Math.floor(place * stored.keyHeads / stored.heads.length)
    kernel.scores(at.queries, at.keys + key * at.block, size, (last + 7) >> 3, at.scores, apart)
    tokens.forEach((token, r) => {
      const sum = kernel.softmax(at.scores + r * apart, causal ? token + 1 : count, out + r * at.wide, weight)
      // the largest is e^0, unless scores are NaN or infinite
      if (sum >= 1 && sum < Infinity) return
      throw new Error(`The scores of token ${token} are not finite: the page is damaged; write it again.`)
    })
  }
}

/**
 * Rows of at most four tokens over the tokens that are left, each divided by its sum, as `chain.restrict` does.
 *
 * @param {Chain} chain
 * @param {Int32Array} tokens
 * @param {number} out  Where the first begins; the others `stride` bytes further each.
 */
export function keptRows(chain, tokens, out) {
  const {kept, size, at, held: {count}, machine: {f}} = chain
  if (size === count) return mixedRows(chain, tokens, out)
  mixedRows(chain, tokens, at.rows)
  tokens.forEach((token, r) => {
    const from = (at.rows + r * at.wide) / 4, to = (out + r * at.stride) / 4
    let sum = 0
    for (const j of kept) sum += f[from + j]
    if (!(sum > 0)) throw new Error(`Token ${token} sends no probability to the tokens that are left; leave it out, too.`)
    f.fill(0, to, to + at.stride / 4)
    for (let j = 0; j < size; j++) f[to + j] = f[from + kept[j]] / sum
  })
}
