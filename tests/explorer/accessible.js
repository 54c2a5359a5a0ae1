/** What one can act on without a name that is told, or with a state that is not. */
function nameless() {
  const root = document.querySelector('main').shadowRoot, bad = []
  const named = e => e.getAttribute('aria-label') || (e.getAttribute('aria-labelledby') ?? '').split(' ')
    .map(id => root.getElementById(id)?.textContent ?? '').join('') || e.closest('label')?.textContent.trim() || e.textContent.trim()
  for (const e of root.querySelectorAll('button, input, select, textarea, summary, [tabindex], [role=img], [role=grid]')) {
    if (!e.checkVisibility()) continue
    if (!named(e)) bad.push(`no name: ${e.outerHTML.slice(0, 100)}`)
    if (e.matches('input[type=range]') && !e.getAttribute('aria-valuetext') && !e.value) bad.push(`no value: ${e.outerHTML.slice(0, 100)}`)
    if (e.matches('.segments button') && !e.hasAttribute('aria-pressed')) bad.push(`not pressed or not: ${e.outerHTML.slice(0, 100)}`)
  }
  return bad
}

/** Ratios of text to what is painted behind it, of everything that is seen; WCAG 2.2, 1.4.3, without large text's discount. */
function faint() {
  const root = document.querySelector('main').shadowRoot, bad = []
  const parts = colour => {
    const context = new OffscreenCanvas(1, 1).getContext('2d')
    context.fillStyle = colour
    context.fillRect(0, 0, 1, 1)
    const [r, g, b, a] = context.getImageData(0, 0, 1, 1).data
    return [r, g, b, a / 255]
  }
  const over = ([r, g, b, a], [R, G, B]) => [r * a + R * (1 - a), g * a + G * (1 - a), b * a + B * (1 - a), 1]
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0)
  const parent = e => e.parentElement ?? e.getRootNode().host
  const behind = e => {
    const layers = []
    for (let p = e; p; p = parent(p)) layers.push(parts(getComputedStyle(p).backgroundColor))
    return layers.reduceRight((under, layer) => over(layer, under), [255, 255, 255, 1])
  }
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT)
  while (walker.nextNode()) {
    const e = walker.currentNode.parentElement
    if (!walker.currentNode.textContent.trim() || !e.checkVisibility({opacityProperty: true, visibilityProperty: true})) continue
    if (e.closest('.unseen, style, option, :disabled, [aria-disabled=true], svg, .absent')) continue
    const ground = behind(e), ink = over(parts(getComputedStyle(e).color), ground), [a, b] = [light(ink), light(ground)]
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)
    if (ratio < 4.5) bad.push(`${ratio.toFixed(2)} ${e.localName}.${e.className}: ${e.textContent.trim().slice(0, 40)}`)
  }
  return [...new Set(bad)]
}

/** Every element that Tab reaches from the first on, and whether one sees that it has the focus. */
function active() {
  const root = document.querySelector('main').shadowRoot, e = root?.activeElement
  if (!e) return null
  const style = getComputedStyle(e)
  const seen = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 1.5
  return {what: `${e.localName}.${e.className} ${e.getAttribute('aria-label') ?? e.textContent.trim().slice(0, 30)}`, seen,
    top: e.getBoundingClientRect().top + scrollY, left: e.getBoundingClientRect().left}
}
