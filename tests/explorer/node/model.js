/** A widget's model, as hosts hand it to a module: values, events, and a record of what was sent. */

export function modelOf(values) {
  const listeners = new Map(), sent = []
  let changed = {}
  const model = {
    values: {want: [], part: null, places: [], held: new Uint8Array(0), ...values}, sent,
    get: name => model.values[name],
    set(name, value) {
      if (model.values[name] === value) return
      model.values[name] = value
      changed[name] = value
      for (const listener of [...listeners.get(`change:${name}`) ?? []]) listener()
    },
    on(event, listener) { listeners.set(event, [...listeners.get(event) ?? [], listener]) },
    off(event, listener) { listeners.set(event, (listeners.get(event) ?? []).filter(one => one !== listener)) },
    send() { throw new Error('messages are lost before a widget is shown') },
    save_changes() {
      const message = changed
      changed = {}
      sent.push(message)
      model.python?.(message)
    },
    /** Python sets traits. */
    receive(message) {
      for (const [name, value] of Object.entries(message)) model.set(name, value)
      changed = {}
    },
    count: () => [...listeners.values()].reduce((sum, all) => sum + all.length, 0),
  }
  return model
}

/** What Python answers: the number of the ask as uint32, then the bytes. */
export function answer([number, offset, length], blob) {
  const part = new Uint8Array(4 + length)
  new DataView(part.buffer).setUint32(0, number, true)
  part.set(blob.subarray(offset, offset + length), 4)
  return part
}

/** Bytes as hosts hand them over. */
export const HOSTS = {
  'Uint8Array': bytes => bytes,
  'DataView (JupyterLab)': bytes => {
    const wide = new Uint8Array(bytes.length + 7)
    wide.set(bytes, 3)
    return new DataView(wide.buffer, 3, bytes.length)
  },
  'ArrayBuffer': bytes => bytes.slice().buffer,
  'base64 (marimo)': bytes => Buffer.from(bytes).toString('base64'),
}
