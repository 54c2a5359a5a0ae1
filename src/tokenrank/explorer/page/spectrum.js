/**
 * The chain of a layer: its leading eigenvalues in the complex plane, how fast the walk on screen forgets, and which
 * tokens it never leaves. All numbers but the distance of the walk come from Python.
 */
import {button, element, shape} from './elements.js'
import {bounceCount, halfLife, knownModulus, missingChain, modulus, otherChain} from './mixture.js'
import {HUES, partition} from './partition.js'
import {drawn} from './passage.js'
import {tiny, tokenName, whole} from './say.js'

/** @typedef {import('./types.js').View} View */
/** @typedef {NonNullable<import('./types.js').Layer['chain']>} Chain */

/** Of the unit circle, and where its middle is. */
const UNIT = 96
const ORIGIN = 120
/** Edges of the plot of distances. */
const EDGES = {left: 40, right: 300, top: 12, bottom: 150}
const BY_NAME = 24 // tokens by name; more are counted

/**
 * @param {View} view
 * @returns {import('./types.js').Part}
 */
export function spectrum(view) {
  const facts = element('p', {class: 'facts'}), scope = element('p', {class: 'note'})
  const told = element('p', {class: 'note'}), plane = element('figure'), decay = element('figure')
  const classes = element('div', {class: 'classes'})
  const body = element('div', {class: 'column'}, element('div', {class: 'plots'}, plane, decay), classes)
  const made = element('section', {class: 'column'}, facts, scope, body)
  const marker = shape('circle', {class: 'now', r: 4})
  /** @type {import('./types.js').Layer | null} */
  let shown = null
  /** @type {(n: number) => [number, number] | null} */
  let place = () => null

  /** @param {Chain} chain */
  function draw(chain) {
    plane.replaceChildren(eigenvalues(chain, words => { told.textContent = words }),
      element('figcaption', {}, 'Leading eigenvalues in the complex plane.\nDashed: |λ2|.'), told)
    told.textContent = 'Point at one, or step through them, for its number.'
    classes.replaceChildren(...classList(view, chain))
  }

  function mark() {
    const point = place(Math.min(view.frame, view.index.bounces))
    marker.toggleAttribute('hidden', !point)
    if (point) {
      marker.setAttribute('cx', String(point[0]))
      marker.setAttribute('cy', String(point[1]))
    }
  }

  return {
    element: made,
    update(changed) {
      const {layer, walk} = view
      const chain = layer.chain
      body.hidden = !chain
      if (layer !== shown && chain) draw(chain)
      shown = layer
      facts.textContent = chain ? summary(chain) : missingChain(view)
      scope.textContent = chain ? otherChain(view) : ''
      scope.hidden = !scope.textContent
      if (changed.has('walk') || changed.has('state')) {
        const drawn = walk?.distance ? convergence(view, walk.distance) : null
        place = drawn ? drawn.place : () => null
        drawn?.plot.append(marker)
        decay.replaceChildren(...(drawn ? [drawn.plot, element('figcaption', {text: drawn.words})] : []))
      }
      mark()
    },
  }
}

/** @param {Chain} chain */
function summary(chain) {
  const half = halfLife(chain.lambda2)
  return `|λ2| = ${modulus(chain.lambda2)}, ${chain.certificate}. `
    + (half === Infinity ? 'Something of the start is never forgotten. '
      : `Half of the slowest mode is left after ${bounceCount(half)} bounces. `)
    + (chain.unique ? 'The walk has one limit, also without jumps (α = 1).'
      : 'Without jumps (α = 1) the walk has no limit of its own: it depends on the start, or turns for ever.')
}

/**
 * The complex plane: unit circle, axes, circle of |λ2|, eigenvalues; filled where they are proved or checked.
 * @param {Chain} chain
 * @param {(words: string) => void} tell
 */
function eigenvalues(chain, tell) {
  // as many as classes that are never left, of which the leading eigenvalues may show a part
  const ones = Math.max(chain.classes?.recurrent.length ?? 1,
    chain.spectrum.filter(({real, imaginary}) => Math.hypot(real - 1, imaginary) < 1e-3).length)
  const plot = shape('svg', {viewBox: '0 0 240 240', width: 240, role: 'group', 'aria-label': 'Eigenvalues in the complex plane'},
    shape('path', {class: 'axis', d: 'M8 120H232M120 8V232'}),
    shape('circle', {class: 'unit', cx: ORIGIN, cy: ORIGIN, r: UNIT}),
    shape('circle', {class: 'second', cx: ORIGIN, cy: ORIGIN, r: UNIT * chain.lambda2}),
    label(222, 134, ones > 1 ? `1 (${ones} ×)` : '1'), label(126, 16, 'i'))
  chain.spectrum.forEach(({real, imaginary, certificate, residual}, i) => {
    const other = imaginary ? ` ${imaginary < 0 ? '−' : '+'} ${Math.abs(imaginary).toFixed(4)} i, modulus `
      + modulus(Math.hypot(real, imaginary)) : ''
    const words = i === 0 ? 'λ1 = 1, of every chain'
      : `λ${i + 1} = ${real.toFixed(4).replace('-', '−')}${other}: ${certificate}`
        + (residual === null ? '' : `, residual ${tiny(residual)}`)
    const listen = () => tell(words)
    plot.append(shape('circle', {
      class: certificate === 'uncertain' ? 'value open' : 'value', cx: ORIGIN + UNIT * real, cy: ORIGIN - UNIT * imaginary,
      r: 4.5, tabindex: 0, role: 'img', 'aria-label': words, focus: listen, pointerenter: listen,
    }))
  })
  return plot
}

/**
 * Distance of the walk on screen from its limit, on a logarithmic scale, beside the rate that Python's |λ2| gives it.
 * @param {View} view
 * @param {Float32Array} distance
 */
function convergence(view, distance) {
  const {left, right, top, bottom} = EDGES, last = distance.length - 1
  const known = knownModulus(view), floor = Math.max(1e-6, view.walk?.residual ?? 0)
  const told = distance.findIndex(d => d < floor), seen = told < 0 ? distance.length : told
  const least = Math.min(0.1, ...distance.subarray(0, seen))
  const decades = -Math.floor(Math.log10(least) + 1e-9)
  const across = (/** @type {number} */ n) => left + (right - left) * n / Math.max(1, last)
  const high = (/** @type {number} */ d) => top + (bottom - top) * Math.min(1, -Math.log10(Math.max(d, 1e-12)) / decades)
  const path = (/** @type {number} */ count, /** @type {(n: number) => number} */ of) =>
    `M${Array.from({length: count}, (_, n) => `${across(n).toFixed(1)} ${high(of(n)).toFixed(1)}`).join('L')}`
  const plot = shape('svg', {viewBox: '0 0 312 186', width: 312, role: 'img', 'aria-label': 'Distance from TokenRank at each bounce'})
  const every = Math.ceil(decades / 5)
  for (let power = 0; power <= decades; power += every) {
    const y = high(10 ** -power)
    plot.append(shape('path', {class: 'axis', d: `M${left} ${y}H${right}`}),
      label(left - 6, y + 4, power ? `1e-${power}` : '1', 'end'))
  }
  for (let n = 0; n <= last; n += last > 10 ? 5 : 1) plot.append(label(across(n), bottom + 18, String(n), 'middle'))
  plot.append(label(right, bottom + 33, 'bounces', 'end'))
  const rate = known ? view.state.alpha * known.lambda2 : 0
  const ruled = rate ? Math.min(last + 1, 1 + Math.floor(Math.log(10 ** -decades / distance[0]) / Math.log(rate))) : 0
  if (ruled > 0) plot.append(shape('path', {class: 'second', d: path(ruled, n => distance[0] * rate ** n)}))
  if (seen) plot.append(shape('path', {class: 'distance', d: path(seen, n => distance[n])}))
  const dashed = rate ? `Dashed: ${modulus(rate)}ⁿ, where α|λ2| = ${modulus(rate)}.` : known ? '' : 'Of this chain no |λ2| is known.'
  return {
    plot,
    words: `Distance of the walk from TokenRank${seen > last ? '' : ', as far as it can be told'}.\n${dashed}`,
    place: (/** @type {number} */ n) => /** @type {[number, number]} */ ([across(n), high(distance[Math.round(n)])]),
  }
}

/**
 * Sentence about the classes; where there are several, where they lie, and their tokens, from which a walk can start.
 * @param {View} view
 * @param {Chain} chain
 */
function classList(view, chain) {
  const found = chain.classes
  if (!found) return []
  const {recurrent, transient, absorbing, note} = found, several = recurrent.length > 1 || transient.length > 0
  /** @type {[string, number[]][]} */
  const kinds = [['absorbing', absorbing], ['transient', transient]]
  const lists = kinds.filter(([, tokens]) => tokens.length).map(([kind, tokens]) => element('p', {class: 'kind'},
    element('b', {text: `${whole(tokens.length)} ${kind}`}), ...tokens.slice(0, BY_NAME).map(token => tokenButton(view, token)),
    tokens.length > BY_NAME ? ` and ${whole(tokens.length - BY_NAME)} more` : ''))
  const map = several && recurrent.length <= HUES.length ? [partition(view, recurrent, note).element,
    element('p', {class: 'note', text: 'A colour for each class that is never left; none for transient tokens.'})] : []
  return [element('h2', {text: 'Classes'}), element('p', {class: 'note', text: note}), ...lists, ...map]
}

/** @param {View} view @param {number} token */
function tokenButton(view, token) {
  const look = () => view.look(token), away = () => view.look(null)
  return button(element('bdi', {text: drawn(tokenName(view.sheet, token))}), () => view.set({starts: [token]}),
    {class: 'chip', title: 'Start here', pointerenter: look, focus: look, pointerleave: away, blur: away})
}

/**
 * @param {number} x
 * @param {number} y
 * @param {string} text
 * @param {'start' | 'middle' | 'end'} [anchor]
 */
function label(x, y, text, anchor = 'start') {
  return shape('text', {x, y, 'text-anchor': anchor, text})
}
