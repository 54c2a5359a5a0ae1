/**
 * Steps of a denoiser: a slider over its steps, one over the layers that are in the page, and play.
 * Start, bounces and heads stay while one moves. Hidden for sheets of one step.
 */
import {button, element, shape, slider} from './elements.js'

/**
 * @typedef {import('./types.js').View} View
 */

/** Milliseconds a step stays on screen. */
const STEP_PAUSE = 700
const GO = 'M6 4l10 6-10 6z', WAIT = 'M5 4h3.5v12H5zM11.5 4H15v12h-3.5z'

/**
 * A step in words: "step 14, timestep 503".
 *
 * @param {import('./types.js').Step} step
 */
export function stepName({step, timestep}) {
  return timestep === null ? `step ${step}` : `step ${step}, timestep ${Number(timestep.toPrecision(3))}`
}

/**
 * @param {View} view
 * @returns {import('./types.js').Part}
 */
export function steps(view) {
  const step = slider('Step', {min: 0, max: 0, step: 1, value: 0}, place => {
    stop()
    view.set({step: place})
  })
  const layer = slider('Layer', {min: 0, max: 0, step: 1, value: 0}, place => view.set({layer: stored()[place].number}))
  const stepWords = element('output'), layerWords = element('output')
  const sign = shape('path', {d: GO})
  const player = button(shape('svg', {viewBox: '0 0 20 20', 'aria-hidden': true}, sign), () => timer ? stop() : run(), {class: 'icon'})
  step.input.setAttribute('aria-label', 'Step')
  layer.input.setAttribute('aria-label', 'Layer')
  step.element.append(stepWords)
  layer.element.append(layerWords)
  const whole = element('section', {class: 'panel steps', 'aria-label': 'Steps of the denoiser'},
    player, step.element, layer.element)
  let timer = 0

  function stored() {
    return view.layers.filter(one => one.stored)
  }

  /** A step when the one before is on screen, so that a slow chain is not overtaken. */
  function next() {
    const last = view.sheet.steps.length - 1
    if (view.work.building >= 1) {
      if (view.state.step >= last) return stop()
      view.set({step: view.state.step + 1})
    }
    timer = window.setTimeout(next, STEP_PAUSE)
  }

  function run() {
    if (view.state.step >= view.sheet.steps.length - 1) view.set({step: 0})
    timer = window.setTimeout(next, STEP_PAUSE)
    icon()
  }

  function stop() {
    window.clearTimeout(timer)
    timer = 0
    icon()
  }

  function icon() {
    sign.setAttribute('d', timer ? WAIT : GO)
    for (const name of ['aria-label', 'title']) player.setAttribute(name, timer ? 'Pause the steps' : 'Play the steps')
  }

  return {
    element: whole,
    update(changed) {
      if (!changed.has('sheet') && !changed.has('state')) return
      const {sheet, state} = view, all = stored(), place = all.findIndex(one => one.number === state.layer)
      if (changed.has('sheet')) stop()
      whole.hidden = sheet.steps.length < 2
      if (whole.hidden) return
      step.input.max = String(sheet.steps.length - 1)
      step.show(state.step, stepName(sheet.steps[state.step]))
      stepWords.textContent = stepName(sheet.steps[state.step]).slice(5)
      layer.input.max = String(all.length - 1)
      layer.element.hidden = all.length < 2
      layer.show(Math.max(0, place), view.layer.name)
      layerWords.textContent = layerWords.title = view.layer.name
    },
    remove: stop,
  }
}
