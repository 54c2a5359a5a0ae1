/**
 * How to read the colours: their bar and its numbers, how the map is drawn, and the tokens that hold the most.
 */
import {drawnTokens, neighbourhood, palette, scaleOf, shown} from './heat.js'
import {button, element, segments, slider, toggle} from './elements.js'
import {gradesOf, paperOf} from './ink.js'
import {evenly, percent, tokenName} from './say.js'
import {heatOf} from './words.js'

/** @typedef {import('./types.js').View} View */

const LISTED = 5

/**
 * The largest of a map: tokens, or words summed from their pieces; the start's neighbourhood left out if it is hidden.
 * @param {View} view
 * @param {Float32Array} map
 * @returns {{tokens: number[], name: string, share: number}[]}
 */
export function largestOf({sheet, state}, map) {
  const near = state.hide ? neighbourhood(sheet, state.starts) : null
  const hidden = new Set(near && drawnTokens(sheet).filter((_, k) => near[k]))
  const words = state.pieces ? [] : sheet.words.map(({text, first, count}) =>
    ({name: text, tokens: Array.from({length: count}, (_, i) => first + i)}))
  const covered = new Set(words.flatMap(({tokens}) => tokens))
  for (let token = 0; token < sheet.count; token++) if (!covered.has(token)) words.push({name: '', tokens: [token]})
  return words.filter(({tokens}) => !tokens.some(token => hidden.has(token)))
    .map(({name, tokens}) => ({name, tokens, share: tokens.reduce((sum, token) => sum + map[token], 0)}))
    .sort((a, b) => b.share - a.share).slice(0, LISTED).filter(({share}) => share > 0)
    .map(({name, tokens, share}) => ({name: name || tokenName(sheet, tokens[0]), tokens, share}))
}

/**
 * @param {View} view
 * @returns {import('./types.js').Part}
 */
export function reading(view) {
  const bar = element('canvas', {width: 256, height: 1, 'aria-hidden': true}), top = element('span')
  const opacity = slider('overlay', {min: 0, max: 1, step: 0.05, value: 0}, value => view.set({opacity: value}))
  const smooth = toggle('smooth', on => view.set({smooth: on}))
  const hide = toggle('hide around the start', on => view.set({hide: on}),
    {title: 'Leave the patches next to the start out of the colours, their scale and the list'})
  const scale = segments('Scale of the colours', [
    {value: 'each', text: 'own scale', title: 'Every number of bounces from 0 to its own largest value, or to six even shares'},
    {value: 'shared', text: 'one scale', title: 'One largest value for all numbers of bounces from 1 on'},
  ], value => view.set({scale: /** @type {'each' | 'shared'} */ (value)}))
  const colours = element('select', {'aria-label': 'Colours', change: () => view.set({colours: /** @type {any} */ (colours.value)})},
    ...['magma', 'viridis', 'greys'].map(text => element('option', {value: text, text})))
  const note = element('p', {class: 'note'})
  /** @type {number[][]} */
  let listed = []
  const rows = Array.from({length: LISTED}, (_, i) => {
    const cells = [element('span'), element('span'), element('span')]
    const look = () => view.look(listed[i]?.[0] ?? null), away = () => view.look(null)
    const made = button('', () => view.set({starts: listed[i] ?? view.state.starts}),
      {title: 'Start here', pointerenter: look, pointerleave: away, focus: look, blur: away})
    made.append(...cells)
    return {cells, item: element('li', {}, made)}
  })
  const whole = element('div', {class: 'reading'}, element('div', {class: 'scale'}, element('span', {text: '0'}), bar, top, colours),
    element('div', {class: 'row'}, opacity.element, scale.element, smooth.element, hide.element),
    element('div', {class: 'most'}, element('p', {'aria-hidden': true}, ...['holds most', 'share', '× even'].map(text => element('span', {text}))),
      element('ol', {'aria-label': 'Largest tokens'}, ...rows.map(({item}) => item))), note)

  /** @param {Set<import('./types.js').Change>} changed */
  const update = changed => {
    const {sheet, state} = view, of = shown(view)
    for (const one of [opacity, smooth, hide]) one.element.hidden = !sheet.grid
    opacity.show(state.opacity)
    smooth.show(state.smooth)
    hide.show(state.hide)
    scale.show(state.scale)
    colours.value = state.colours
    note.textContent = sheet.picture ? `The model saw ${sheet.picture.note}.` : ''
    note.hidden = !sheet.picture?.note
    if (!of || (changed.size === 1 && changed.has('hover'))) return
    const text = sheet.kind === 'text', {top: most, weak, kept} = (text ? heatOf : scaleOf)(view, of.map, of.frame)
    const name = weak ? 'greys' : state.colours, table = palette(name), image = new ImageData(256, 1)
    if (text) gradesOf(name, paperOf(view)).forEach(({back}, i) => image.data.set([...back, 255, ...back, 255, ...back, 255, ...back, 255], 16 * i))
    else image.data.forEach((_, i) => {
      image.data[i] = i % 4 === 3 ? 255 : table[3 * Math.round(Math.sqrt(255 * (i >> 2))) + i % 4]
    })
    bar.getContext('2d')?.putImageData(image, 0, 0)
    // a word is several even shares
    top.textContent = text ? percent(most) : `${percent(most)} · ${evenly(most, kept)} even`
    const largest = largestOf(view, of.map)
    listed = largest.map(({tokens}) => tokens)
    rows.forEach(({cells, item}, i) => {
      item.hidden = i >= largest.length
      if (item.hidden) return
      const {name, share, tokens} = largest[i]
      cells.forEach((cell, c) => { cell.textContent = [name, percent(share), evenly(share / tokens.length, kept)][c] })
    })
  }
  return {element: whole, update}
}
