/**
 * Dark and light, and full screen.
 */

/**
 * The theme that is not shown now.
 * @param {HTMLElement} host
 * @returns {"dark" | "light"}
 */
export function otherTheme(host) {
  return host.dataset.theme === 'dark' ? 'light' : 'dark'
}

/**
 * Into full screen and out of it; nothing where the page around forbids it.
 * @param {HTMLElement} host
 */
export function fullScreen(host) {
  const asked = document.fullscreenElement ? document.exitFullscreen() : host.requestFullscreen?.()
  asked?.catch(() => {})
}

/**
 * Whether what is behind an element is dark: by the first background above it, such as a notebook's, whatever the system
 * prefers; null where there is none.
 *
 * @param {HTMLElement} host
 * @returns {boolean | null}
 */
function onDark(host) {
  for (let node = host.parentNode; node; node = node.parentNode ?? /** @type {any} */ (node).host) {
    if (!(node instanceof Element)) continue
    const numbers = getComputedStyle(node).backgroundColor.match(/[\d.]+/g) ?? [0, 0, 0, 0]
    const [red, green, blue, opacity = 1] = numbers.map(Number)
    if (opacity > 0.5) return 0.3 * red + 0.6 * green + 0.1 * blue < 100
  }
  return null
}

/**
 * Keeps `data-theme` of the host: what the reader chose, else that of the page around, else what the system prefers.
 *
 * @param {HTMLElement} host
 * @returns {{choose: (theme: import('./types.js').State['theme']) => void, remove: () => void}}
 */
export function themeOf(host) {
  const dark = matchMedia('(prefers-color-scheme: dark)')
  /** @type {import('./types.js').State['theme']} */
  let chosen = null
  const show = () => {
    host.dataset.theme = chosen ?? (onDark(host) ?? dark.matches ? 'dark' : 'light')
  }
  const around = new MutationObserver(show)
  for (const node of [document.documentElement, document.body]) around.observe(node, {attributes: true})
  dark.addEventListener('change', show)
  show()
  return {
    choose(theme) {
      chosen = theme
      show()
    },
    remove() {
      dark.removeEventListener('change', show)
      around.disconnect()
    },
  }
}
