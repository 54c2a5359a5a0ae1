/**
 * Maps of a walk by frames: whole numbers of bounces, fractions between two, and one more than the largest for ∞.
 */

/** @typedef {import('./types.js').Walk} Walk */

/**
 * The map of a frame, blended in between; null where it is not ready.
 * @param {Walk | null} walk
 * @param {number} last  Largest finite number of bounces.
 * @param {number} frame
 * @returns {Float32Array | null}
 */
export function mapAt(walk, last, frame) {
  if (!walk) return null
  const {count, maps, ready, limit} = walk, low = Math.floor(frame), share = frame - low
  /** @param {number} n */
  const map = n => n > last ? limit : n < ready ? maps.subarray(n * count, (n + 1) * count) : null
  const from = map(low)
  if (!share || !from) return from
  const to = map(low + 1)
  return to && from.map((value, i) => value + share * (to[i] - value))
}

/**
 * Largest frame that there is a map for.
 * @param {Walk | null} walk
 * @param {number} last
 */
export function reachOf(walk, last) {
  return !walk ? 0 : walk.limit && walk.ready > last ? last + 1 : walk.ready - 1
}
