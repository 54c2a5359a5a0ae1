/**
 * A widget of a notebook: index and bytes out of traits, and the state of the page kept equal to traits of the same
 * names. A model is what anywidget hands over.
 */
import {SourceError, checkedIndex, fromBase64} from './source.js'
import {defaults} from './state.js'

/** @typedef {import('./types.js').Bytes} Bytes */
/** @typedef {import('./types.js').View} View */
/** @typedef {{get: (name: string) => any, set: (name: string, value: unknown) => void, on: (event: string, listener: () => void) => void, off: (event: string, listener: () => void) => void, save_changes: () => void}} Model */

/** Bytes that are asked for in one message; hosts end the connection at about 10 MB. */
const MOST_ASKED = 4e6
/** Milliseconds to wait for an answer: a kernel that is busy answers later. */
const PATIENCE = 12e4
/** Asks that stay in the trait, so that views of one model do not write over each other's. */
const KEPT = 8

/**
 * Bytes as hosts hand them over: a view, a buffer (also of another window), or base64.
 * @param {any} value
 * @returns {Uint8Array}
 */
export function bytesFrom(value) {
  if (typeof value === 'string') return fromBase64(value)
  if (ArrayBuffer.isView(value)) return new Uint8Array(value.buffer, value.byteOffset, value.byteLength)
  return new Uint8Array(value?.byteLength ? value : 0)
}

/**
 * Index and bytes of a model. What `held` has needs no kernel. The rest is asked for in `want`, one piece after the
 * other, as [number, offset, length], and comes in `part`: the number as uint32, then the bytes.
 *
 * @param {Model} model
 * @returns {import('./types.js').Source & {remove: () => void}}
 */
export function traitsSource(model) {
  const held = bytesFrom(model.get('held'))
  let number = Math.floor(Math.random() * 2 ** 31) // other views of the model have their own
  /** @type {(bytes: Uint8Array | null) => void} */
  let answer = () => {}
  /** @type {Promise<unknown>} */
  let last = Promise.resolve()

  function heard() {
    const bytes = bytesFrom(model.get('part'))
    const known = bytes.length > 4 && new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true) === number
    if (known) answer(bytes.subarray(4))
  }

  /** @param {number} offset @param {number} length @returns {Promise<Uint8Array>} */
  function ask(offset, length) {
    number++
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => answer(null), PATIENCE)
      answer = bytes => {
        clearTimeout(timer)
        if (bytes?.length === length) resolve(bytes)
        else reject(new SourceError('The kernel does not answer: run the cell that made this explorer again.'))
      }
      model.set('want', [...model.get('want').slice(1 - KEPT), [number, offset, length]])
      model.save_changes()
    })
  }

  /** @param {Bytes} bytes */
  async function fetched([offset, length]) {
    const whole = new Uint8Array(length)
    for (let at = 0; at < length; at += MOST_ASKED) {
      whole.set(await ask(offset + at, Math.min(MOST_ASKED, length - at)), at)
    }
    return whole
  }

  model.on('change:part', heard)
  return {
    index: async () => checkedIndex(JSON.parse(model.get('index'))),
    async bytes(bytes) {
      let at = 0
      for (const [offset, length] of model.get('places')) {
        const from = at + bytes[0] - offset
        at += length
        if (from >= at - length && from + bytes[1] <= at) return held.slice(from, from + bytes[1])
      }
      const asked = last.then(() => fetched(bytes))
      last = asked.catch(() => {})
      return asked
    },
    remove() {
      model.off('change:part', heard)
      answer(null)
    },
  }
}

/**
 * Keeps traits and page equal; `tell` is called when the page changed.
 *
 * @param {Model} model
 * @param {View} view
 * @returns {{tell: () => void, remove: () => void}}
 */
export function bound(model, view) {
  const names = Object.keys(view.state), state = () => /** @type {Record<string, unknown>} */ (view.state)
  /** Names that changed in the model and not yet in the page. @type {Set<string>} */
  const fresh = new Set()
  let busy = false, timer = 0

  function tell() {
    if (busy) return
    busy = true
    const changed = names.filter(name => !fresh.has(name) && String(model.get(name)) !== String(state()[name]))
    for (const name of changed) model.set(name, state()[name])
    busy = false
    if (changed.length) model.save_changes()
  }

  function take() {
    timer = 0
    busy = true
    view.set(Object.fromEntries([...fresh].map(name => [name, model.get(name)])))
    busy = false
    fresh.clear()
    tell() // what the page cannot show is corrected in Python, too
  }

  const listeners = names.map(name => () => {
    if (busy) return
    fresh.add(name)
    timer ||= Number(setTimeout(take))
  })
  names.forEach((name, i) => model.on(`change:${name}`, listeners[i]))
  return {
    tell,
    remove() {
      clearTimeout(timer)
      names.forEach((name, i) => model.off(`change:${name}`, listeners[i]))
    },
  }
}

/**
 * One view of a widget, until the function that it returns is called.
 *
 * @param {{model: Model, el: HTMLElement}} place
 * @param {typeof import('./main.js').mount} mount
 * @returns {() => void}
 */
export function renderWidget({model, el}, mount) {
  const source = traitsSource(model), ends = [source.remove]
  let gone = false
  el.dataset.lmSuppressShortcuts = 'true' // or JupyterLab takes keys of the page for its own: b, a cell below
  /** @type {ReturnType<typeof bound> | null} */
  let link = null
  const stop = () => {
    gone = true
    for (const end of ends.splice(0)) end()
  }
  source.index()
    .then(index => Object.fromEntries(Object.keys(defaults(index)).map(name => [name, model.get(name)])), () => ({}))
    .then(state => mount(el, source, {state, changed: () => link?.tell()}))
    .then(({view, remove}) => {
      link = bound(model, view)
      ends.push(link.remove, remove)
      if (gone) stop()
    })
    .catch(error => console.warn(error)) // the sentence stands in the element
  return stop
}
