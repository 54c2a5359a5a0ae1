/**
 * Maps as colours: tables, the scale of a map, what is left out of it, and cells drawn over a picture.
 *
 * The colour of a share p is table(√(p / top)): shares differ by factors of hundreds, and a linear scale would show the
 * largest alone. The root also makes noise look like structure. So the scale ends at six even shares or more, that a
 * nearly even map does not glow, and a map in which no patch holds three even shares has no colour: it is grey.
 */
import {droppedTokens} from './chosen.js'

/** @typedef {import('./types.js').View} View */
/** @typedef {import('./types.js').Sheet} Sheet */
/** @typedef {ReturnType<typeof scaleOf>} Scale */
/** @typedef {{map: Float32Array, frame: number}} Shown  A map and the number of bounces that it belongs to. */

/** Colours at even distances, linear between; within 3 of 255 of matplotlib's tables of these names. */
const ANCHORS = {
  magma: '0000020a09231f124c3b0f7257147e7120818c2981a8327dc43b75de4968f2605cfb7f5dfe9f6cfebf83fdde9ffcfdbf',
  viridis: '44015448176a482a7a433d853d4e8a355e8d2e6d8e297b8e23898e1e978b20a5862db37d45c07064cc5e88d548b0dd2ed8e217fee722',
  greys: '0c0c0ef4f4f2',
}
/** Even shares that a scale has at least. */
const REACH = 6
/** A map whose largest patch holds less than this many even shares is noise to the eye, */
export const WEAK = 3
/** and this much less opaque than others: it must not hide the picture. */
const FAINT = 0.6
/** Pixels of a cell, along each side, where the map is smooth. */
const FINE = 8

/** @type {Record<string, Uint8Array>} */
const tables = {}

/**
 * A table of 256 colours, (256, 3).
 * @param {keyof typeof ANCHORS} name
 */
export function palette(name) {
  const anchors = ANCHORS[name], last = anchors.length / 6 - 1
  return tables[name] ??= Uint8Array.from({length: 768}, (_, i) => {
    const x = Math.floor(i / 3) / 255 * last, low = Math.min(last - 1, Math.floor(x))
    /** @param {number} a */
    const level = a => parseInt(anchors.substr(6 * a + 2 * (i % 3), 2), 16)
    return Math.round(level(low) + (level(low + 1) - level(low)) * (x - low))
  })
}

/**
 * The tokens that a map is drawn of: those of the cells, row by row, or all of a text.
 * @param {Sheet} sheet
 */
export function drawnTokens({grid, count}) {
  const length = grid ? grid.rows * grid.columns : count
  return Int32Array.from({length}, (_, k) => grid ? grid.order?.[k] ?? grid.first + k : k)
}

/** Longest side by the shortest of a map without a picture: frames of a sound are a single row of many cells. */
const LONGEST_SIDE = 4

/** @param {number} aspect */
const clamped = aspect => Math.max(1 / LONGEST_SIDE, Math.min(LONGEST_SIDE, aspect))

/**
 * Width of a map by its height: that of its picture, else of its cells as far as that can be drawn; strips for texts.
 * @param {Sheet} sheet
 */
export function aspectOf({picture, grid}) {
  return String(picture ? picture.width / picture.height : grid ? clamped(grid.columns / grid.rows) : 3)
}

/**
 * The start's neighbourhood, of which nothing is drawn while `state.hide`: cells within two of a start (one on grids
 * below 20 columns), tokens of a text next to it; 1 for these and 0 for the others, in the order of `drawnTokens`.
 * @param {Sheet} sheet
 * @param {readonly number[]} starts
 */
export function neighbourhood(sheet, starts) {
  const tokens = drawnTokens(sheet), columns = sheet.grid?.columns ?? tokens.length
  const radius = sheet.grid && columns >= 20 ? 2 : 1, places = starts.map(start => tokens.indexOf(start)).filter(k => k >= 0)
  return tokens.map((_, k) => Number(places.some(place => Math.abs(k % columns - place % columns) <= radius &&
    Math.abs(Math.floor(k / columns) - Math.floor(place / columns)) <= radius)))
}

/**
 * What a frame shows: its map, or the last one that is ready while the bounces are being built.
 * @param {View} view
 * @param {number} [frame]
 * @returns {Shown | null}
 */
export function shown(view, frame = view.frame) {
  for (const at of [frame, (view.walk?.ready ?? 0) - 1]) {
    const map = at < 0 ? null : view.at(at)
    if (map) return {map, frame: at}
  }
  return null
}

/**
 * The scale of a map: its own, or that of all maps from one bounce on; the start alone (n = 0) is not part of it.
 *
 * @param {View} view
 * @param {Float32Array} map
 * @param {number} frame  The map's.
 * @returns {{largest: number, top: number, weak: boolean, near: Int32Array | null, kept: number}}  Share of the largest
 *   patch that is drawn, the share that gets the last colour, whether the map is grey, the cells that are not drawn
 *   (near a start, or of tokens left out), and how many tokens share.
 */
export function scaleOf({sheet, layer, state, walk}, map, frame) {
  const tokens = drawnTokens(sheet), gone = droppedTokens(sheet, layer, state), kept = sheet.count - gone.length
  const near = state.hide ? neighbourhood(sheet, state.starts) : gone.length ? new Int32Array(tokens.length) : null
  for (const token of gone) if (near && tokens.includes(token)) near[tokens.indexOf(token)] = 1
  /** @param {Float32Array} values */
  const most = values => tokens.reduce((found, token, k) => near?.[k] ? found : Math.max(found, values[token]), 0)
  const largest = most(map)
  let top = Math.max(largest, REACH / kept)
  if (state.scale === 'shared' && walk && frame >= 1) {
    for (let n = 1; n < walk.ready; n++) top = Math.max(top, most(walk.maps.subarray(n * walk.count, (n + 1) * walk.count)))
    if (walk.limit) top = Math.max(top, most(walk.limit))
  }
  return {largest, top, weak: largest < WEAK / kept, near, kept}
}

/**
 * Values between those of the cells, FINE times as many along a row, eased: every cell keeps its value at its centre.
 * Rows become columns, so that a second call does the other side.
 * @param {Float32Array} values
 * @param {number} columns
 */
function stretched(values, columns) {
  const rows = values.length / columns, out = new Float32Array(values.length * FINE)
  for (let i = 0; i < columns * FINE; i++) {
    const x = Math.max(0, Math.min(columns - 1, (i + 0.5) / FINE - 0.5)), low = Math.floor(x), f = x - low
    const high = Math.min(columns - 1, low + 1), share = f * f * (3 - 2 * f)
    for (let row = 0; row < rows; row++) {
      const from = values[row * columns + low], to = values[row * columns + high]
      out[i * rows + row] = from < 0 || to < 0 ? [from, to][Math.round(f)] : from + (to - from) * share
    }
  }
  return out
}

/**
 * Cells as an image, a pixel each; FINE along each side where it is smooth. Then values are interpolated, not colours:
 * no colour appears that the table does not have.
 *
 * @param {Float32Array} cells  √(p / top) of every cell, 0 … 1; below 0: not drawn.
 * @param {number} columns
 * @param {Uint8Array} table
 * @param {number} [opacity]  Of the last colour; darker ones let a little more through.
 * @param {boolean} [smooth]
 */
export function cellImage(cells, columns, table, opacity = 1, smooth = false) {
  const shares = smooth ? stretched(stretched(cells, columns), cells.length / columns) : cells
  const width = smooth ? FINE * columns : columns, image = new ImageData(width, shares.length / width)
  const pixels = new Uint32Array(image.data.buffer)
  const inks = Uint32Array.from({length: 256}, (_, i) => // red in the lowest byte
    Math.round(opacity * (191 + i / 4)) * 2 ** 24 + table[3 * i] + 256 * table[3 * i + 1] + 65536 * table[3 * i + 2])
  shares.forEach((share, i) => { if (share >= 0) pixels[i] = inks[Math.min(255, Math.round(255 * share))] })
  return image
}

/** @typedef {{colour: ImageBitmap, grey: OffscreenCanvas, id: string}} Pictured */

/** @type {WeakMap<HTMLCanvasElement | OffscreenCanvas, {key: string, ground: OffscreenCanvas}>} */
const grounds = new WeakMap()

/**
 * The picture in the size of a canvas; kept, because scaling it takes longer than a map.
 * @param {HTMLCanvasElement | OffscreenCanvas} canvas
 * @param {Pictured} picture
 * @param {number} grey  How much of its colour it has lost.
 */
function groundOf(canvas, picture, grey) {
  const {width, height} = canvas, key = [picture.id, width, height, grey].join()
  const known = grounds.get(canvas)
  if (known?.key === key) return known.ground
  const ground = new OffscreenCanvas(width, height), context = ground.getContext('2d')
  if (context) {
    context.imageSmoothingQuality = 'high'
    context.drawImage(picture.colour, 0, 0, width, height)
    context.globalAlpha = grey
    context.drawImage(picture.grey, 0, 0, width, height)
  }
  grounds.set(canvas, {key, ground})
  return ground
}

/**
 * A map over the picture, or the picture alone; gives the scale of the map.
 * @param {View} view
 * @param {HTMLCanvasElement | OffscreenCanvas} canvas
 * @param {Pictured | null} picture
 * @param {Shown | null} of
 */
export function drawHeat(view, canvas, picture, of) {
  const {sheet, state} = view, {width, height} = canvas, {opacity} = state
  const context = /** @type {CanvasRenderingContext2D | null} */ (canvas.getContext('2d'))
  if (!context || !width) return null
  // grey below the map, or its colours mix with those of the picture; the less of the map, the more of the picture
  context.clearRect(0, 0, width, height)
  if (picture) context.drawImage(groundOf(canvas, picture, of ? Math.min(1, 2 * opacity) : 0), 0, 0)
  if (!of) return null
  const scale = scaleOf(view, of.map, of.frame), {near, top, weak} = scale
  const cells = Float32Array.from(drawnTokens(sheet), (token, k) => near?.[k] ? -1 : Math.sqrt(of.map[token] / top))
  const image = cellImage(cells, sheet.grid?.columns ?? sheet.count, palette(weak ? 'greys' : state.colours),
    weak ? FAINT * opacity : opacity, state.smooth)
  const small = new OffscreenCanvas(image.width, image.height)
  small.getContext('2d')?.putImageData(image, 0, 0)
  context.imageSmoothingEnabled = state.smooth
  context.drawImage(small, 0, 0, width, height)
  return scale
}

/** @type {WeakMap<Sheet, Promise<Pictured | null>>} */
const pictures = new WeakMap()

/**
 * The picture that the model saw, in colour and in grey; decoded once for all parts.
 * @param {View} view
 * @returns {Promise<Pictured | null>}
 */
export function pictureOf(view) {
  const {sheet} = view, about = sheet.picture
  const decode = async () => {
    if (!about) return null
    const bytes = await view.bytes(about.bytes)
    const colour = await createImageBitmap(new Blob([/** @type {BlobPart} */ (bytes)], {type: about.mime}))
    const grey = new OffscreenCanvas(colour.width, colour.height), context = grey.getContext('2d')
    if (context) {
      context.drawImage(colour, 0, 0)
      context.globalCompositeOperation = 'saturation'
      context.fillStyle = '#808080'
      context.fillRect(0, 0, grey.width, grey.height)
    }
    return {colour, grey, id: sheet.name + about.bytes}
  }
  const found = pictures.get(sheet) ?? decode().catch(() => null) // a notice says that it is missing
  pictures.set(sheet, found)
  return found
}

/**
 * Makes a canvas as fine as the screen.
 * @param {HTMLCanvasElement} canvas
 */
export function sharpen(canvas) {
  const width = Math.round(canvas.clientWidth * devicePixelRatio), height = Math.round(canvas.clientHeight * devicePixelRatio)
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, {width, height})
}
