/**
 * The places of the parts: header, two columns, tabs, notices, footer. A part that fails says so in its place and
 * leaves the others alone.
 */
import {board} from './board.js'
import {chips} from './chips.js'
import {button, element, segments, shape} from './elements.js'
import {footer, notices} from './notices.js'
import {exporting} from './export.js'
import {groups} from './groups.js'
import {helpWords} from './keys.js'
import {picture} from './picture.js'
import {reading} from './reading.js'
import {ribbon} from './ribbon.js'
import {sentence} from './say.js'
import {bounces} from './slider.js'
import {steps} from './steps.js'
import {spectrum} from './spectrum.js'
import {strip} from './strip.js'
import {table} from './table.js'
import {text} from './text.js'
import {fullScreen, otherTheme} from './theme.js'

/** @typedef {import('./types.js').View} View */
/** @typedef {import('./types.js').Part} Part */
/** @typedef {import('./types.js').Change} Change */

/**
 * The parts in the order of the page, a line for each: where it goes ("scene": the left column; the tab whose panel it is
 * in; "end": below, closed at first), what makes it, and whether it is of sheets with a picture or of texts.
 *
 * @type {{place: "scene" | import('./types.js').State['tab'] | "end", name: string, make: (view: View) => Part,
 *   of?: "picture" | "text"}[]}
 */
const PARTS = [
  {place: 'scene', name: 'Picture', make: picture, of: 'picture'},
  {place: 'scene', name: 'Text', make: text, of: 'text'},
  {place: 'scene', name: 'Bounces', make: bounces},
  {place: 'scene', name: 'Strip', make: strip, of: 'picture'},
  {place: 'scene', name: 'Ribbon', make: ribbon, of: 'text'},
  {place: 'walk', name: 'Steps', make: steps},
  {place: 'walk', name: 'Chips', make: chips},
  {place: 'walk', name: 'Reading', make: reading},
  {place: 'walk', name: 'Heads', make: board},
  {place: 'heads', name: 'Heads', make: table},
  {place: 'chain', name: 'Chain', make: spectrum},
  {place: 'groups', name: 'Groups', make: groups},
  {place: 'end', name: 'Export', make: exporting},
]

/** @type {{value: import('./types.js').State['tab'], text: string}[]} */
const TABS = [
  {value: 'walk', text: 'Walk'}, {value: 'heads', text: 'Heads'}, {value: 'chain', text: 'Chain'},
  {value: 'groups', text: 'Groups'},
]
const HALF = 'M10 2a8 8 0 1 0 0 16a8 8 0 1 0 0-16zm0 1.6v12.8a6.4 6.4 0 1 1 0-12.8z'
const CORNERS = 'M3 3h5v1.6H4.6V8H3zM12 3h5v5h-1.6V4.6H12zM3 12h1.6v3.4H8V17H3zM15.4 12H17v5h-5v-1.6h3.4z'

/** @type {Set<Change>} */
const ALL = new Set(['sheet', 'state', 'walk', 'frame', 'hover', 'work', 'size'])

/** @param {string} path */
function icon(path) {
  return shape('svg', {viewBox: '0 0 20 20', 'aria-hidden': true}, shape('path', {d: path}))
}

/**
 * A part that cannot break the page: made when it is first seen, told what it missed while it was out of sight, and
 * replaced by a sentence when it throws.
 *
 * @param {string} name
 * @param {(view: View) => Part} make
 * @param {View} view
 */
function guarded(name, make, view) {
  const place = element('div', {class: 'part', hidden: true})
  /** @type {Part | null} */
  let part = null
  let failed = false
  /** @type {Set<Change>} */
  let missed = new Set()
  /** @type {Set<string>} */
  let keys = new Set()
  /** @param {unknown} error */
  const fail = error => {
    failed = true
    place.hidden = false
    console.warn(error)
    place.replaceChildren(element('p', {class: 'notice', role: 'alert',
      text: `This part of the page failed (${name}: ${String(error)}). The others go on.`}))
  }
  return {
    place,
    /** @param {Set<Change>} changed @param {Set<string>} names @param {boolean} seen */
    update(changed, names, seen) {
      if (failed) return
      for (const change of changed) missed.add(change)
      for (const name of names) keys.add(name)
      if (!seen) {
        place.hidden = true
        return
      }
      const [now, which] = [missed, keys]
      missed = new Set()
      keys = new Set()
      try {
        if (!part) {
          part = make(view)
          place.replaceChildren(part.element)
          part.update(new Set(ALL), new Set(Object.keys(view.state)))
        } else part.update(now, which)
        place.hidden = part.element.hidden
      } catch (error) {
        fail(error)
      }
    },
    remove() {
      try {
        part?.remove?.()
      } catch (error) {
        console.warn(error)
      }
    },
  }
}

/** Sheets that are buttons beside each other; more are a list. */
const MOST_BUTTONS = 4

/**
 * The choice among sheets, hidden where there is one.
 * @param {View} view
 * @returns {{element: HTMLElement, show: (sheet: number) => void}}
 */
function sheetChoice(view) {
  const {sheets} = view.index, label = 'Picture or text'
  if (sheets.length <= MOST_BUTTONS) {
    const made = segments(label, sheets.map(({name}, value) => ({value, text: name})), sheet => view.set({sheet}))
    made.element.hidden = sheets.length < 2
    return made
  }
  const list = element('select', {'aria-label': label, change: () => view.set({sheet: list.selectedIndex})},
    ...sheets.map(({name}) => element('option', {text: name})))
  return {element: list, show: sheet => { list.selectedIndex = sheet }}
}

/**
 * The whole page of one explorer.
 *
 * @param {View} view
 * @returns {Part}
 */
export function shell(view) {
  const {index} = view
  const sheets = sheetChoice(view)
  const full = button(icon(CORNERS), () => fullScreen(view.host),
    {class: 'icon', 'aria-label': 'Full screen', title: 'Full screen (f)', hidden: !document.fullscreenEnabled})
  const theme = button(icon(HALF), () => view.set({theme: otherTheme(view.host)}),
    {class: 'icon', 'aria-label': 'Dark or light', title: 'Dark or light (t)'})
  const title = element('h1', {}, 'tokenrank', element('span', {text: ' · '}), element('bdi', {text: index.title}))
  const top = element('header', {class: 'top'}, title, sheets.element, theme, full)

  const words = element('p', {class: 'sentence', id: 'sentence'})
  const bar = element('div',
    {class: 'building', role: 'progressbar', 'aria-label': 'The chain is being built', hidden: true})
  const told = notices(view), foot = footer(view)
  const scene = element('section', {class: 'column', 'aria-label': 'Walk of attention'})
  const side = element('section', {class: 'column', 'aria-label': 'Heads and chain'})
  const end = element('div', {class: 'column end'})

  /** @type {Record<string, HTMLElement>} */
  const panels = {}
  /** @type {Record<string, HTMLButtonElement>} */
  const tabs = {}
  for (const {value, text} of TABS) {
    if (!PARTS.some(({place}) => place === value)) continue
    panels[value] = element('div',
      {class: 'panel', role: 'tabpanel', id: `panel-${value}`, 'aria-labelledby': `tab-${value}`})
    tabs[value] = button(text, () => view.set({tab: value}), {role: 'tab', id: `tab-${value}`,
      'aria-controls': `panel-${value}`, 'aria-selected': false})
  }
  const list = element('div', {class: 'tabs', role: 'tablist', 'aria-label': 'Views', keydown: turn},
    ...Object.values(tabs))
  side.append(list, ...Object.values(panels))

  const parts = PARTS.map(({place, name, make, of}) => ({where: place, name, of, ...guarded(name, make, view)}))
  for (const {where, name, place} of parts) {
    if (where === 'scene') scene.append(place)
    else if (where !== 'end') panels[where].append(place)
    else end.append(element('details', {}, element('summary', {text: name}), place))
  }
  parts.find(({name}) => name === 'Bounces')?.place.before(bar, words)
  end.append(helpWords(view))

  const columns = element('div', {class: 'columns'}, scene, side, end)
  const page = element('div', {class: 'explorer'}, top, told.element, columns, foot.element)

  /** The left column is as wide as the picture, which leaves room for what is below it on the screen. */
  function measure() {
    const {picture: seen} = view.sheet
    if (seen) columns.style.setProperty('--scene', `clamp(420px, ${63 * seen.width / seen.height}vh, 56cqi)`)
    else columns.style.removeProperty('--scene')
  }

  /** Arrows go from tab to tab. @param {KeyboardEvent} event */
  function turn(event) {
    const step = event.key === 'ArrowRight' ? 1 : event.key === 'ArrowLeft' ? -1 : 0
    if (!step) return
    event.preventDefault()
    event.stopPropagation()
    const names = Object.keys(tabs), at = names.indexOf(view.state.tab)
    const next = names[(at + step + names.length) % names.length]
    view.set({tab: /** @type {import('./types.js').State['tab']} */ (next)})
    tabs[next].focus()
  }

  return {
    element: page,
    update(changed, keys) {
      const tab = view.state.tab in tabs ? view.state.tab : Object.keys(tabs)[0]
      if (changed.has('sheet')) measure()
      if (changed.has('state')) {
        sheets.show(view.state.sheet)
        for (const name of Object.keys(tabs)) {
          const on = name === tab
          panels[name].hidden = !on
          tabs[name].setAttribute('aria-selected', String(on))
          tabs[name].tabIndex = on ? 0 : -1
        }
      }
      if (changed.has('state') || changed.has('frame')) {
        const [bold, rest] = sentence(view)
        words.replaceChildren(element('b', {text: bold}), ` ${rest}`)
      }
      const {building} = view.work
      bar.hidden = building === 0 || building === 1
      bar.style.setProperty('--part', String(building))
      bar.ariaValueNow = String(Math.round(100 * building))
      told.update(changed, keys)
      foot.update(changed, keys)
      const kind = view.sheet.kind === 'text' ? 'text' : 'picture'
      for (const part of parts) {
        part.update(changed, keys, (!part.of || part.of === kind) && (!(part.where in panels) || part.where === tab))
      }
    },
    remove() {
      for (const part of parts) part.remove()
    },
  }
}
