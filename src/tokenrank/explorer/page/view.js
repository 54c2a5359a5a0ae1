/**
 * One explorer on a page: the one place where a state becomes work, and where the parts are told.
 */
import {calculator} from './calculator.js'
import {absence, droppedTokens, headWeights} from './chosen.js'
import {FILES} from './files.js'
import {mapAt, reachOf} from './frames.js'
import {linkOf} from './link.js'
import {liveText} from './live.js'
import {player} from './play.js'
import {duration, sentence, whole} from './say.js'
import {fromBase64} from './source.js'
import {checked, defaults, differences, fromLink, layerAt, layersAt} from './state.js'
import {themeOf} from './theme.js'

/** @typedef {import('./types.js').Index} Index */
/** @typedef {import('./types.js').Bytes} Bytes */
/** @typedef {import('./types.js').Change} Change */
/** @typedef {import('./types.js').Part} Part */
/** @typedef {import('./types.js').State} State */
/** @typedef {import('./types.js').Walk} Walk */

/** Names of the state that the walk depends on. */
const COMPUTED = ['sheet', 'step', 'layer', 'head', 'starts', 'direction', 'alpha', 'without']
/** Names whose change is told to those who listen. */
const TOLD = [...COMPUTED, 'bounces']

/** Tokens above which a reader is told how long the chain takes, and milliseconds after which that is known. */
const SLOW = 2048, PROBE = 150

/**
 * The view of an index. It does nothing before `begin(page)`; `remove` ends worker, timers and listeners.
 *
 * @param {{index: Index, source: import('./types.js').Source, root: ShadowRoot, host: HTMLElement,
 *   options: import('./main.js').Options}} given
 * @returns {import('./types.js').View & {live: HTMLElement, begin: (page: Part) => void, remove: () => void}}
 */
export function viewOf({index, source, root, host, options}) {
  const linked = options.link ? fromLink(location.hash) : {}
  let state = checked(index, defaults(index), {...options.state, ...linked})
  /** @type {Part | null} */
  let page = null
  /** @type {Walk | null} */
  let walk = null
  /** @type {number | null} */
  let hover = null
  let frame = state.bounces
  /** What was asked last; answers to anything else are late. */
  let asked = 0
  /** The chain that the calculator has or builds: layer, heads and tokens left out. */
  let built = ''
  /** Largest number of bounces that there is, where a browser cannot make the chain's matrix. */
  let most = Infinity
  /** @type {import('./types.js').Notice | null} */
  let missing = null
  /** @type {import('./types.js').Notice | null} */
  let failed = null
  /** @type {import('./types.js').Notice | null} */
  let slow = null
  /** @type {Set<Change>} */
  let changes = new Set()
  /** @type {Set<string>} */
  let names = new Set()
  let telling = false, removed = false
  /** Whether the map on screen is still to come from the walk under way; whether another start waits for it. */
  let walking = false, waiting = false

  const theme = themeOf(host), live = liveText(() => play.on())
  const link = linkOf(options.link ? () => index : null, hash => view.set(hash))
  const kernel = FILES['kernel.wasm']
  const engine = calculator(kernel ? fromBase64(kernel) : null, options.engine)
  /** @type {import('./types.js').View['work']} */
  const work = {building: 0, wasm: true, worker: true, why: '', milliseconds: {}}
  const play = player(() => reachOf(walk, index.bounces), moved => {
    frame = moved
    tell('frame')
  }, () => {
    if (frame >= index.bounces + 1) pause()
  })
  const sized = new ResizeObserver(() => tell('size'))

  /**
   * Parts are told once, after everything that happens at once.
   * @param {Change} change
   * @param {Iterable<string>} [which]
   */
  function tell(change, which = []) {
    changes.add(change)
    for (const name of which) names.add(name)
    if (telling || !page) return
    telling = true
    queueMicrotask(() => {
      telling = false
      const [now, keys] = [changes, names]
      changes = new Set()
      names = new Set()
      if (!removed) page?.update(now, keys)
    })
  }

  function pause() {
    play.stop()
    set({bounces: Math.round(frame)})
    tell('frame')
  }

  /** @param {Record<string, unknown>} wanted */
  function set(wanted) {
    const next = checked(index, state, wanted)
    const sheet = index.sheets[next.sheet], layer = layerAt(sheet, next.step, next.layer)
    const absent = absence(index, layer, next.head)
    if (absent && walk && next.sheet === state.sheet) {
      Object.assign(next, {step: state.step, layer: state.layer, head: state.head}) // the walk that is shown stays
    }
    missing = absent
    next.bounces = Math.min(next.bounces, most)
    const moved = differences(state, next), stopped = play.on() && TOLD.some(name => moved.has(name))
    if (stopped) {
      play.stop()
      if (!moved.has('bounces')) next.bounces = Math.round(frame)
    }
    const keys = differences(state, next)
    tell('work')
    if (!keys.size) return
    state = next
    if (!play.on()) frame = state.bounces
    if (keys.has('theme')) theme.choose(state.theme)
    if (keys.has('sheet')) {
      walk = null
      hover = null
      tell('sheet')
    }
    tell('state', keys)
    if (keys.has('bounces') || stopped) tell('frame')
    const asks = COMPUTED.filter(name => keys.has(name))
    // a walk under way is shown first, or a drag over a large picture would show nothing until it rests
    if (walking && work.building === 1 && String(asks) === 'starts') waiting = true
    else if (asks.length) compute()
    if (TOLD.some(name => keys.has(name))) speak()
    link.show(state)
    options.changed?.(state)
  }

  /** The sentence, unless a slider says its own. */
  function speak() {
    if (root.activeElement?.localName !== 'input') live.say(sentence(view).join(', '))
  }

  /** Layer, chain and walk of the state, as far as they are not there. What is shown stays until the new is there. */
  async function compute() {
    const id = ++asked, late = () => id !== asked || removed
    const {sheet, layer} = view, {stored} = layer
    if (!stored) return
    const key = [state.sheet, state.step, state.layer].join('/')
    failed = slow = null
    most = Infinity
    walking = waiting = false
    try {
      await engine.ready
      Object.assign(work, {wasm: engine.wasm, worker: engine.worker, why: engine.why})
      if (!engine.has(key)) {
        built = ''
        work.building = 0
        tell('work')
        const bytes = await source.bytes(stored.bytes)
        if (late()) return
        await engine.layer(key, stored, sheet.count, bytes)
        if (late()) return
      }
      const dropped = droppedTokens(sheet, layer, state), heads = headWeights(layer, state.head)
      const wanted = JSON.stringify([key, heads, dropped])
      if (built !== wanted) {
        built = wanted
        build(key, heads, dropped)
      }
      const {starts, direction, alpha} = state, began = performance.now()
      let first = true
      walking = true
      const shown = Math.min(state.bounces, index.bounces)
      const done = await engine.walk({starts, direction, alpha, bounces: index.bounces, shown}, answer => {
        if (late()) return
        walk = answer
        walking &&= answer.ready <= shown && !answer.limit
        if (first) work.milliseconds.click = performance.now() - began
        first = false
        tell('walk')
        if (waiting && !walking) compute()
      })
      if (done && !late() && walk && !walk.limit) few(sheet.count)
    } catch (error) {
      if (!late()) fail(error)
    }
    if (late()) return
    walking = false
    if (waiting) compute()
  }

  /** @param {string} key @param {[number, number][]} heads @param {number[]} dropped */
  function build(key, heads, dropped) {
    const began = performance.now(), wanted = built, {count} = view.sheet
    const keep = dropped.length ? Array.from({length: count}, (_, token) => !dropped.includes(token)) : null
    work.building = 0
    tell('work')
    let first = 0, since = 0
    engine.chain({key, heads, keep}, part => {
      if (built !== wanted) return
      work.building = part
      const now = performance.now()
      if (!since) [first, since] = [part, now]
      else if (!slow && count > SLOW && now - since > PROBE) {
        const left = (now - since) / (part - first) * (1 - part)
        slow = {words: `${whole(count)} tokens: one bounce now, more in about ${duration(left)}.`, command: null}
      }
      tell('work')
    }).then(done => {
      if (!done || built !== wanted) return
      work.building = 1
      work.milliseconds.chain = performance.now() - began
      slow = null
      tell('work')
    }).catch(error => {
      if (built !== wanted) return
      built = ''
      fail(error)
    })
  }

  /** Too many tokens for a matrix of all pairs in a browser. @param {number} count */
  function few(count) {
    work.building = 1
    most = walk ? walk.ready - 1 : 0
    slow = {command: null, words: `${whole(count)} tokens are too many for more bounces than one in a browser. `
      + 'Fewer tokens, as of a smaller picture or a shorter text, have them all.'}
    tell('work')
    set({})
  }

  /** @param {unknown} error */
  function fail(error) {
    if (removed) return
    failed = {words: error instanceof Error ? error.message : String(error), command: null}
    work.building = 1
    tell('work')
  }

  const view = {
    index, work, root, host, set, live: live.element,
    get state() { return state },
    get sheet() { return index.sheets[state.sheet] },
    get layers() { return layersAt(view.sheet, state.step) },
    get layer() { return layerAt(view.sheet, state.step, state.layer) },
    get walk() { return walk },
    get hover() { return hover },
    get frame() { return frame },
    get playing() { return play.on() },
    get notices() {
      const torn = source.problem ? {words: source.problem, command: null} : null
      return [torn, missing, failed, slow].filter(notice => notice !== null)
    },
    /** @param {number | null} token */
    look(token) {
      if (token === hover) return
      hover = token
      tell('hover')
    },
    play(on = !play.on()) {
      if (on === play.on()) return
      if (!on) return pause()
      if (!walk) return
      play.start(frame > index.bounces ? 0 : frame)
      tell('frame')
    },
    /** @param {number} frame */
    at: frame => mapAt(walk, index.bounces, frame),
    /** @param {Bytes} bytes */
    bytes: bytes => source.bytes(bytes).catch(error => {
      fail(error)
      throw error
    }),
    /** @param {string} words */
    say: words => live.say(words),
    /** @param {Part} made */
    begin(made) {
      page = made
      theme.choose(state.theme)
      missing = absence(index, view.layer, state.head)
      sized.observe(host)
      for (const change of /** @type {Change[]} */ (['sheet', 'state', 'walk', 'frame', 'hover', 'work', 'size'])) {
        tell(change, Object.keys(state))
      }
      compute()
    },
    remove() {
      removed = true
      play.stop()
      engine.stop()
      for (const one of [theme, live, link]) one.remove()
      sized.disconnect()
    },
  }
  return view
}
