/**
 * A text as its parts share it: units, what is left out, the heat of a map.
 */
import {droppedTokens} from './chosen.js'
import {GRADES} from './ink.js'
import {masses, topOf, unitsOf} from './passage.js'

/**
 * @typedef {import('./types.js').View} View
 *
 * @typedef {object} Passage
 * @property {import('./passage.js').Unit[]} units
 * @property {Int32Array} at  Unit of every token.
 * @property {[number, number]} sight  First unit on screen and the one after the last.
 * @property {HTMLElement[]} spans  Of the units.
 * @property {(unit: number) => void} reveal  Scrolls the text, and nothing around it.
 * @property {Set<() => void>} watching  Called when `sight` changes.
 *
 * @typedef {object} Heat  What is seen of a map.
 * @property {Float32Array} mass  Of every unit.
 * @property {Uint8Array} grades  Of every unit.
 * @property {number} top  Probability of the last grade.
 * @property {boolean} weak  Whether the units hardly differ; they are grey then.
 * @property {(unit: number) => boolean} over  Whether a unit is beyond the scale.
 * @property {number} kept  Tokens that take part.
 */

/** A text whose largest unit is below this many times the median, of those on the scale, is even to the eye. */
export const EVEN = 1.5

/** @type {WeakMap<View, {sheet: unknown, pieces: boolean, passage: Passage}>} */
const passages = new WeakMap()

/**
 * The text of a view, one for all of its parts.
 * @param {View} view
 * @returns {Passage}
 */
export function passageOf(view) {
  const {sheet, state: {pieces}} = view, known = passages.get(view)
  if (known?.sheet === sheet && known.pieces === pieces) return known.passage
  const units = unitsOf(sheet, pieces), at = new Int32Array(sheet.count)
  units.forEach(({first, count}, i) => at.fill(i, first, first + count))
  /** @type {Passage} */
  const passage = {units, at, sight: [0, units.length], spans: [], reveal: () => {}, watching: new Set()}
  passages.set(view, {sheet, pieces, passage})
  return passage
}

/** Tokens that outshine the rest of a head, or of the heads that are mixed. @param {View} view */
export const sinksOf = ({sheet, layer, state: {head}}) => droppedTokens(sheet, layer, {head, without: 'sinks'})

/** Tokens that the state leaves out. @param {View} view */
export const goneOf = ({sheet, layer, state}) => droppedTokens(sheet, layer, state)

/**
 * Heat is linear here: words differ less than patches, and a root would colour all of them.
 * @param {View} view
 * @param {Float32Array} map
 * @param {number} frame
 * @returns {Heat}
 */
export function heatOf(view, map, frame) {
  const {units} = passageOf(view), {state, sheet, walk} = view, kept = sheet.count - goneOf(view).length
  const sinks = new Set(sinksOf(view)), mass = masses(units, map)
  /** @param {Float32Array} of */
  const most = of => topOf(units, of, sinks, kept)
  let top = most(mass)
  const rest = mass.filter(p => p <= 1.001 * top).sort(), weak = frame > 0 && top < EVEN * rest[rest.length >> 1]
  if (state.scale === 'shared' && walk && frame >= 1) {
    for (let n = 1; n < walk.ready; n++) {
      top = Math.max(top, most(masses(units, walk.maps.subarray(n * walk.count, (n + 1) * walk.count))))
    }
  }
  const grades = Uint8Array.from(mass, p => top && Math.round((GRADES - 1) * Math.min(1, p / top)))
  return {mass, grades, top, weak, over: i => frame > 0 && mass[i] > 1.001 * top, kept}
}
