/**
 * The explorer: one module for a file, a notebook and a site.
 */
import {element} from './elements.js'
import {FILES} from './files.js'
import {catchKeys} from './keys.js'
import {shell} from './shell.js'
import {SourceError, addressSource, tagsSource} from './source.js'
import {viewOf} from './view.js'
import {renderWidget} from './widget.js'

/**
 * Options of `mount`.
 *
 * @typedef {object} Options
 * @property {boolean} [link]  Whether this explorer owns the part of the address behind #. One on a page.
 * @property {boolean} [focus]  Whether it has the keyboard from the beginning, as where nothing else is on the page.
 * @property {Record<string, unknown>} [state]  What to begin with, as in a link.
 * @property {{worker?: boolean, wasm?: boolean}} [engine]  Whether a worker and WebAssembly may be used; both by default.
 * @property {(state: import('./types.js').State) => void} [changed]  Called after every change of the state.
 */

/**
 * Shows an explorer in an element.
 *
 * @param {HTMLElement} host
 * @param {import('./types.js').Source | ParentNode | string} source  What answers for index and bytes, or the document
 *   with the tags of a file, or the address of a `.trx`.
 * @param {Options} [options]
 * @returns {Promise<{view: import('./types.js').View, remove: () => void}>}  Rejected, with the sentence in the element,
 *   where the source cannot be read.
 */
export async function mount(host, source, options = {}) {
  const root = host.shadowRoot ?? host.attachShadow({mode: 'open'})
  try {
    const sheet = new CSSStyleSheet()
    sheet.replaceSync(FILES['style.css'] ?? '')
    root.adoptedStyleSheets = [sheet]
    const from = typeof source === 'string' ? addressSource(source)
      : 'querySelector' in source ? tagsSource(source) : source
    const index = await from.index()
    const view = viewOf({index, source: from, root, host, options})
    const page = shell(view)
    root.replaceChildren(page.element, view.live)
    const release = catchKeys(view)
    view.begin(page)
    host.tabIndex = -1 // a click anywhere in it brings it the keys
    if (options.focus) host.focus({preventScroll: true})
    return {
      view,
      remove() {
        release()
        page.remove?.()
        view.remove()
        root.replaceChildren()
      },
    }
  } catch (error) {
    const words = error instanceof SourceError ? error.message : `The explorer failed: ${String(error)}`
    root.replaceChildren(element('p', {class: 'notice', role: 'alert', text: words}))
    throw error
  }
}

/** What anywidget asks for. */
export default {
  /** @param {{model: import('./widget.js').Model, el: HTMLElement}} place */
  render: place => renderWidget(place, mount),
}
