/**
 * What a reader should know: notices on top, and the line at the foot with what was measured.
 */
import {element} from './elements.js'
import {atMost, duration, headsName, tiny, whole} from './say.js'

/** What the page's own arithmetic may add to a row, in single precision, and a bounce later to the limit. */
const SINGLE = 1e-7

/** @typedef {import('./types.js').View} View */
/** @typedef {import('./types.js').Part} Part */

/**
 * The notices of the view, each with the command that helps where there is one.
 * @param {View} view
 * @returns {Part}
 */
export function notices(view) {
  const place = element('div', {class: 'notices', role: 'status'})
  let shown = ''
  return {
    element: place,
    update() {
      const now = JSON.stringify(view.notices)
      if (now === shown) return
      shown = now
      place.replaceChildren(...view.notices.map(({words, command}) =>
        element('p', {class: 'notice'}, words, ...(command ? [' ', element('code', {text: command})] : []))))
    },
  }
}

/**
 * The line at the foot: tokens, layer, heads, how exact they are stored, times, and what slows the page down.
 * @param {View} view
 * @returns {Part}
 */
export function footer(view) {
  const line = element('p', {class: 'foot'})
  return {
    element: line,
    update(changed) {
      if (!changed.has('work') && !changed.has('walk') && !changed.has('state')) return
      line.textContent = facts(view).join(' · ')
    },
  }
}

/**
 * @param {View} view
 * @returns {string[]}
 */
function facts(view) {
  const {index, sheet, layer, state, work} = view
  const found = [index.model === index.title ? '' : index.model, `${whole(sheet.count)} tokens`, sheet.picture?.note ?? '',
    `${layer.name}, ${headsName(state.head)}`]
  if (layer.stored) {
    const {type, errors} = layer.stored, jumps = 1 - index.alpha
    found.push(`stored as ${type}: probabilities are off by up to ${atMost(errors.entry + SINGLE)}, `
      + `TokenRank at α = ${index.alpha} by ${atMost(errors.tokenrank + SINGLE / jumps)} in sum`)
  }
  if (view.walk?.limit && !view.walk.converged) {
    const {residual} = view.walk, {alpha} = state, off = alpha * residual / (1 - alpha)
    found.push(`TokenRank has not converged: residual ${tiny(residual)}`
      + (off < 2 ? `, so that it may be off by ${atMost(off)} in sum` : ''))
  }
  const times = Object.entries(work.milliseconds).map(([name, value]) => `${name} ${duration(value)}`)
  if (times.length) found.push(times.join(', '))
  if (!work.wasm || !work.worker) {
    const without = [work.wasm ? '' : 'no WebAssembly', work.worker ? '' : 'no worker'].filter(Boolean).join(', ')
    found.push(`slower here: ${work.why || without}`)
  }
  found.push(index.generator)
  return found.filter(Boolean)
}
