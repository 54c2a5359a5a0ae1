/**
 * A walk as the page shows it: maps after 0, 1, … bounces and their limit, told in parts where they take long.
 *
 * @typedef {{id: number, starts: number[], direction: 'forward' | 'backward', alpha: number, bounces: number,
 *   shown?: number}} Asked  `shown`: the map that is waited for, told as soon as it is there.
 */
import {bounced, columnSums, limitOf} from './bounce.js'
import {keptRows} from './rows.js'

/**
 * Work, and what is said whenever it pauses.
 *
 * @template T
 * @param {Generator<void, T>} work
 * @param {() => void} say
 * @returns {Generator<void, T>}
 */
export function* saying(work, say) {
  for (;;) {
    const {done, value} = work.next()
    if (done) return value
    say()
    yield
  }
}

/**
 * Where the walk is after one bounce, from the rows of its start alone.
 *
 * @param {import('./rows.js').Chain} chain
 * @param {Int32Array} starts
 * @param {number} alpha
 * @returns {Generator<void, Float64Array>}
 */
export function* firstBounce(chain, starts, alpha) {
  const {size, at, late, machine: {f}} = chain, y = new Float64Array(size).fill((1 - alpha) / size)
  for (let i = 0; i < starts.length; i += 4) {
    const some = starts.subarray(i, i + 4)
    keptRows(chain, some, at.few)
    some.forEach((_, r) => y.forEach((x, j) => y[j] = x + alpha / starts.length * f[(at.few + r * at.stride) / 4 + j]))
    if (late()) yield
  }
  return y
}

/**
 * @param {import('./rows.js').Chain} chain  Built or not.
 * @param {Asked} asked  Starts are among the tokens that are left.
 * @param {Generator<void, void>} build  What builds the chain.
 * @param {(answer: any, transfer: Transferable[]) => void} post
 * @returns {Generator<void, void>}
 */
export function* walkOf(chain, {id, starts, direction, alpha, bounces, shown = 2}, build, post) {
  const {kept, size, held: {count}} = chain, back = direction === 'backward', name = `${direction} ${alpha}`
  const maps = new Float32Array((bounces + 1) * count)
  let ready = 0, told = 0
  /** @type {Float64Array} */
  let v = new Float64Array(size)
  for (const start of starts) v[kept.indexOf(start)] += 1 / starts.length

  /** Numbers of the tokens that are left, among all. @param {Float64Array} values @param {Float32Array} to */
  const spread = (values, to) => {
    values.forEach((x, i) => to[kept[i]] = x)
    return to
  }
  /** @param {Float64Array} values */
  const add = values => spread(v = values, maps.subarray(ready * count, ++ready * count))
  /** @param {import('./limit.js').Limit | null} end @param {boolean} last */
  const tell = (end, last) => {
    told = ready
    const sent = last ? maps : maps.slice(), limit = end && spread(end.values, new Float32Array(count))
    const distance = limit && Float32Array.from({length: bounces + 1}, (_, n) =>
      limit.reduce((sum, x, i) => sum + Math.abs(x - sent[n * count + i]), 0) / 2)
    const {residual, converged} = end ?? {residual: 1, converged: false}
    post({op: 'walk', id, last, walk: {count, ready, maps: sent, limit, distance, residual, converged}}, [sent.buffer])
  }
  // what takes more than a slice: the map that is shown, twice as many each time, and all of them before the limit
  const some = () => {
    if (told < ready && (ready > bounces || ready > 2 && ready >= 2 * told || told <= shown && shown < ready)) tell(null, false)
  }

  add(v)
  if (chain.done < size) {
    const start = v
    if (!back && bounces) add(yield* firstBounce(chain, Int32Array.from(starts), alpha))
    tell(null, !chain.whole)
    if (!chain.whole) return
    yield* build
    v = start
    ready = 1
  }
  if (back) yield* columnSums(chain)
  while (ready <= bounces) add(yield* saying(bounced(chain, v, back, alpha), some))
  const end = chain.limits.get(name) ?? (yield* saying(limitOf(chain, back, alpha), some))
  chain.limits.set(name, end)
  tell(end, true)
}
