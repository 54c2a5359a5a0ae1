/**
 * Playing: the number of bounces shown moves on by itself, slowly at first, to ∞.
 */

/** Bounces a second before 4, before 10 and after. */
const SPEEDS = [1.5, 3, 6]
/** Seconds a step takes where motion is to be reduced. */
const STEP = 0.9

/**
 * @param {() => number} reach  Largest frame that there is a map for.
 * @param {(frame: number) => void} show
 * @param {() => void} ended
 * @returns {{on: () => boolean, start: (frame: number) => void, stop: () => void}}
 */
export function player(reach, show, ended) {
  let asked = 0, frame = 0, last = 0
  const calm = matchMedia('(prefers-reduced-motion: reduce)')

  /** @param {number} now */
  function tick(now) {
    const seconds = Math.min(0.1, (now - last) / 1000)
    const speed = calm.matches ? 1 / STEP : SPEEDS[frame < 4 ? 0 : frame < 10 ? 1 : 2]
    last = now
    frame = Math.max(frame, Math.min(reach(), frame + seconds * speed)) // it waits where there is no map yet
    show(calm.matches ? Math.floor(frame) : frame)
    asked = requestAnimationFrame(tick)
    ended()
  }

  return {
    on: () => asked !== 0,
    start(from) {
      frame = from
      last = performance.now()
      cancelAnimationFrame(asked)
      asked = requestAnimationFrame(tick)
    },
    stop() {
      cancelAnimationFrame(asked)
      asked = 0
    },
  }
}
