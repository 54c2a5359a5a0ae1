/**
 * Heat behind letters: 64 grades from paper to the last colour of the table, each with black or white letters,
 * whichever is farther from it (4.6 : 1 at least).
 */
import {palette} from './heat.js'

/** @typedef {[number, number, number]} Rgb */

export const GRADES = 64

/** Relative luminance of WCAG 2. @param {Rgb} colour */
function luminance(colour) {
  const [r, g, b] = colour.map(x => x <= 10.31475 ? x / 3294.6 : ((x / 255 + 0.055) / 1.055) ** 2.4)
  return 0.2126 * r + 0.7152 * g + 0.0722 * b
}

/** Contrast of two colours, 1 … 21. @param {Rgb} a @param {Rgb} b */
export function contrast(a, b) {
  const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y)
  return (high + 0.05) / (low + 0.05)
}

/** Colour of the page behind everything. @param {import('./types.js').View} view */
export const paperOf = view => getComputedStyle(view.host).getPropertyValue('--paper').trim() || '#ffffff'

/** "#131318" as numbers. @param {string} hex @returns {Rgb} */
export function rgb(hex) {
  const n = parseInt(hex.slice(1), 16)
  return [n >> 16, n >> 8 & 255, n & 255]
}

/**
 * Grades of a table on a paper. On light paper the table runs backwards, so that little heat is pale and much is dark,
 * and stops before black.
 *
 * @param {import('./types.js').State['colours']} colours
 * @param {string} paper
 * @returns {{back: Rgb, letters: string | null}[]}  The first is the paper itself; null: letters as on paper.
 */
export function gradesOf(colours, paper) {
  const table = palette(colours), ground = rgb(paper), dark = luminance(ground) < 0.2
  return Array.from({length: GRADES}, (_, grade) => {
    const share = grade / (GRADES - 1), full = Math.min(1, 5 * share)
    const at = 3 * Math.round(255 * (dark ? share : 1 - 0.86 * share))
    const back = /** @type {Rgb} */ (ground.map((x, c) => Math.round(x + (table[at + c] - x) * full)))
    const white = contrast(back, [255, 255, 255]) > contrast(back, [0, 0, 0])
    return {back, letters: share < 0.2 ? null : white ? '#fff' : '#000'}
  })
}
