/**
 * The part of the address behind #, of the one explorer on a page that owns it.
 */
import {defaults, fromLink, toLink} from './state.js'

/** Milliseconds after which a change is in the address; browsers refuse more than a few a second. */
const DELAY = 250

/**
 * @param {(() => import('./types.js').Index) | null} index  null: this explorer does not own the link.
 * @param {(changes: Record<string, unknown>) => void} changed  Told what another link asks for, whole.
 * @returns {{show: (state: import('./types.js').State) => void, remove: () => void}}
 */
export function linkOf(index, changed) {
  if (!index) return {show() {}, remove() {}}
  let waiting = 0, last = location.hash.slice(1)
  const opened = () => {
    const link = location.hash.slice(1)
    if (link === last) return
    last = link
    const asked = fromLink(link), sheet = Number(asked.sheet ?? 0)
    const usual = defaults(index(), index().sheets[sheet] ? sheet : 0)
    // what a link does not name is as at first; a link to a heading of the page around names nothing
    if (Object.keys(asked).some(name => name in usual)) changed({...usual, ...asked})
  }
  addEventListener('hashchange', opened)
  return {
    show(state) {
      clearTimeout(waiting)
      waiting = setTimeout(() => {
        last = toLink(index(), state)
        try {
          history.replaceState(history.state, '', `#${last}`)
        } catch {
          // a page inside of another one has no address of its own
        }
      }, DELAY)
    },
    remove() {
      clearTimeout(waiting)
      removeEventListener('hashchange', opened)
    },
  }
}
