/**
 * Where index and blob come from: the tags of a file, or an address with ranges.
 */

/** @typedef {import('./types.js').Index} Index */
/** @typedef {import('./types.js').Bytes} Bytes */

/** Bytes in front of the blob's JSON: "TRX1" and its length. */
const HEAD = 8
/** Bytes that a first request asks for, in the hope that the index ends within. */
const FIRST = 1 << 16

/** A source that cannot be read; its message is a sentence for the reader. */
export class SourceError extends Error {}

/**
 * Bytes of base64.
 * @param {string} text
 * @returns {Uint8Array<ArrayBuffer>}
 */
export function fromBase64(text) {
  const native = /** @type {any} */ (Uint8Array).fromBase64
  if (native) return native.call(Uint8Array, text)
  const letters = atob(text)
  const bytes = new Uint8Array(letters.length)
  for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i)
  return bytes
}

/**
 * @param {unknown} found
 * @returns {Index}
 */
export function checkedIndex(found) {
  const index = /** @type {Index | null} */ (found)
  if (index?.format !== 'TRX1') {
    throw new SourceError('This is no page of tokenrank that this module can read: its format is '
      + `${index?.format ?? 'unknown'}, expected TRX1. Write it again with this version of tokenrank.`)
  }
  if (!index.sheets?.length) throw new SourceError('There is nothing in this page: its index has no sheet.')
  return index
}

/**
 * The tags of a single HTML file: `script#index`, and a script of base64 for every part of the blob. Parts are decoded
 * when they are first asked for. A file that was cut off keeps what is there: layers whose bytes are missing count as
 * not stored, and `problem` says so.
 *
 * @param {ParentNode} parent
 * @returns {import('./types.js').Source}
 */
export function tagsSource(parent) {
  const CURE = 'The file was cut off on its way: copy or save it again.'
  /** @type {{at: number, length: number, tag: Element, decoded: Uint8Array | null}[]} */
  const parts = []
  for (const tag of parent.querySelectorAll('script[data-at]')) {
    const at = Number(tag.getAttribute('data-at')), length = Number(tag.getAttribute('data-length'))
    let letters = 0 // counted without a copy: browsers keep long texts in pieces
    for (const piece of tag.childNodes) letters += /** @type {Text} */ (piece).length
    if (letters === 4 * Math.ceil(length / 3)) parts.push({at, length, tag, decoded: null})
  }
  /** @param {Bytes} bytes */
  const partOf = ([at, length]) => parts.find(part => at >= part.at && at + length <= part.at + part.length)
  /** @type {import('./types.js').Source} */
  const source = {
    async index() {
      const text = parent.querySelector('script#index')?.textContent
      if (!text) throw new SourceError(`This page has no index of what it holds. ${CURE}`)
      /** @type {unknown} */
      let found
      try {
        found = JSON.parse(text)
      } catch {
        throw new SourceError(`The index of this page ends in the middle. ${CURE}`)
      }
      const index = checkedIndex(found)
      const torn = []
      for (const sheet of index.sheets) {
        for (const layer of sheet.layers) {
          if (layer.stored && !partOf(layer.stored.bytes)) {
            layer.stored = null
            torn.push(layer.name)
          }
          if (layer.thumbs && !partOf(layer.thumbs)) layer.thumbs = null
        }
        if (sheet.picture && !partOf(sheet.picture.bytes)) {
          sheet.picture = null
          torn.push(`the picture of ${sheet.name}`)
        }
      }
      if (torn.length) source.problem = `Missing in this page: ${torn.join(', ')}. ${CURE}`
      return index
    },
    async bytes(bytes) {
      const part = partOf(bytes)
      if (!part) throw new SourceError(`A part of this page is missing. ${CURE}`)
      const all = part.decoded ?? fromBase64(part.tag.textContent ?? '')
      if (part.at === 0) part.decoded = all // pictures and thumbnails, asked for one by one
      return all.slice(bytes[0] - part.at, bytes[0] - part.at + bytes[1])
    },
  }
  return source
}

/**
 * A `.trx` at an address, read by ranges; where the server has none, it is fetched once as a whole.
 *
 * @param {string} address
 * @returns {import('./types.js').Source}
 */
export function addressSource(address) {
  /** @type {Uint8Array | null} */
  let whole = null
  let blob = 0

  /** @param {number} at @param {number} length */
  async function range(at, length) {
    if (!whole) {
      const answer = await fetch(address, {headers: {Range: `bytes=${at}-${at + length - 1}`}}).catch(error => {
        throw new SourceError(`${address} cannot be fetched: ${error.message}.`)
      })
      if (!answer.ok) throw new SourceError(`${address} cannot be fetched: the server says ${answer.status}.`)
      const found = new Uint8Array(await answer.arrayBuffer())
      if (answer.status === 206) return found
      whole = found
    }
    return whole.slice(at, at + length)
  }

  return {
    async index() {
      let start = await range(0, FIRST)
      if (start.length < HEAD || new TextDecoder().decode(start.subarray(0, 4)) !== 'TRX1') {
        throw new SourceError(`${address} is no file of the explorer: it does not begin with TRX1.`)
      }
      const length = new DataView(start.buffer, start.byteOffset).getUint32(4, true)
      if (HEAD + length > start.length) start = await range(0, HEAD + length)
      if (HEAD + length > start.length) throw new SourceError(`${address} ends within its index; fetch it again.`)
      blob = Math.ceil((HEAD + length) / 16) * 16
      return checkedIndex(JSON.parse(new TextDecoder().decode(start.subarray(HEAD, HEAD + length))))
    },
    async bytes([at, length]) {
      const found = await range(blob + at, length)
      if (found.length < length) throw new SourceError(`${address} ends before this part; write or copy it again.`)
      return found
    },
  }
}
