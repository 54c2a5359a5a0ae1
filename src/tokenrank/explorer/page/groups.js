/**
 * Groups of tokens that the walk rarely leaves, as Python found them: on the picture or text, with what they hold, how
 * well they are stayed in, and the chain between them. A group starts the walk, evenly from its tokens.
 */
import {button, element} from './elements.js'
import {drawnTokens} from './heat.js'
import {missingChain, otherChain} from './mixture.js'
import {HUES, partition} from './partition.js'
import {drawn} from './passage.js'
import {percent, tokenName, whole} from './say.js'

/** @typedef {import('./types.js').View} View */
/** @typedef {NonNullable<NonNullable<import('./types.js').Layer['chain']>['groups']>} Groups */

/** Tokens of a group that are named; patches are not, their colours say it. */
const QUOTED = 6

/**
 * @param {View} view
 * @returns {import('./types.js').Part}
 */
export function groups(view) {
  const words = element('p', {class: 'note'}), scope = element('p', {class: 'note'}), body = element('div', {class: 'groups'})
  const made = element('section', {class: 'column'}, words, scope, body)
  /** @type {HTMLButtonElement[]} */
  let buttons = []

  function draw() {
    const found = view.layer.chain?.groups
    words.textContent = view.layer.chain ? found ? judgement(found) : 'No groups were looked for.' : missingChain(view)
    buttons = []
    body.replaceChildren()
    if (!found || found.members.length < 2) return
    const shown = partition(view, found.members, `${found.members.length} groups over the picture`)
    buttons = found.members.map((tokens, group) => entry(view, found, group, shown.only))
    body.append(shown.element, element('div', {class: 'legend', role: 'group', 'aria-label': 'Groups'}, ...buttons),
      matrix(found.coarse))
  }

  return {
    element: made,
    update(changed, keys) {
      if (changed.has('sheet') || ['sheet', 'step', 'layer'].some(name => keys.has(name))) draw()
      if (!changed.has('state')) return
      scope.textContent = view.layer.chain ? otherChain(view) : ''
      scope.hidden = !scope.textContent
      const starts = String(view.state.starts)
      buttons.forEach((one, group) =>
        one.setAttribute('aria-pressed', String(String(view.layer.chain?.groups?.members[group]) === starts)))
    },
  }
}

/** How many there are and what that is worth. @param {Groups} found */
function judgement({members, certificate, note}) {
  if (members.length < 2) return note
  const sound = `Their subspace is ${certificate}: its residual is far below the gap that sets them apart.`
  return `${members.length} groups that the walk rarely leaves. ${note || sound}`
}

/**
 * A line of the legend; it shows the group alone while it is pointed at, and starts the walk from it.
 * @param {View} view
 * @param {Groups} found
 * @param {number} group
 * @param {(group: number | null) => void} only
 */
function entry(view, found, group, only) {
  const tokens = found.members[group], swatch = element('i')
  swatch.style.background = HUES[group % HUES.length]
  const seen = new Set(view.sheet.grid ? drawnTokens(view.sheet) : []), named = tokens.filter(token => !seen.has(token))
  const names = named.slice(0, QUOTED).map(token => drawn(tokenName(view.sheet, token))).join(' · ')
    + (named.length > QUOTED ? ' …' : '')
  const all = () => only(null), alone = () => only(group)
  const made = button(swatch, () => view.set({starts: tokens}), {
    'aria-pressed': false, title: 'Start evenly from these tokens',
    pointerenter: alone, focus: alone, pointerleave: all, blur: all,
  })
  made.append(element('b', {text: `Group ${group + 1}`}),
    element('span', {text: `${whole(tokens.length)} tokens`}),
    element('span', {text: `share ${percent(found.weights[group])}`}),
    element('span', {text: `stays ${percent(found.stay[group])}`}), element('bdi', {text: names}))
  return made
}

/**
 * The chain between groups, a bounce from row to column. @param {number[][]} coarse
 */
function matrix(coarse) {
  const numbers = coarse.map((_, group) => String(group + 1))
  const head = element('tr', {}, element('th', {text: 'from \\ to'}), ...numbers.map(text => element('th', {scope: 'col', text})))
  const rows = coarse.map((row, from) => element('tr', {}, element('th', {scope: 'row', text: numbers[from]}), ...row.map(p => {
    const cell = element('td', {text: p > 0 && p < 1e-4 ? '< 0.01 %' : percent(p)})
    cell.style.background = `color-mix(in srgb, var(--accent) ${Math.round(30 * Math.max(0, Math.min(1, p)))}%, transparent)`
    return cell
  })))
  return element('table', {class: 'coarse'}, element('caption', {text: 'A bounce between groups'}),
    element('thead', {}, head), element('tbody', {}, ...rows))
}
