/**
 * Live text for those who listen: one sentence when things have come to rest, none while they move.
 */
import {element} from './elements.js'

/** Milliseconds without a change after which a sentence is said. */
const REST = 600

/**
 * @param {() => boolean} moving  Whether it plays.
 * @returns {{element: HTMLElement, say: (words: string) => void, remove: () => void}}
 */
export function liveText(moving) {
  const place = element('p', {class: 'unseen', 'aria-live': 'polite'})
  let waiting = 0
  /** @param {string} words */
  function say(words) {
    clearTimeout(waiting)
    waiting = setTimeout(() => {
      if (moving()) say(words)
      else if (place.textContent !== words) place.textContent = words
    }, REST)
  }
  return {element: place, say, remove: () => clearTimeout(waiting)}
}
