// Explorers that a page embeds have the colours of the site: their link says which, and again when a reader changes them.
"use strict";

const scheme = () => (document.body.dataset.mdColorScheme === "slate" ? "dark" : "light");

function colour() {
  for (const frame of document.querySelectorAll("iframe.explorer")) {
    const address = `${frame.src.replace(/#.*/, "")}#theme=${scheme()}`;
    if (frame.src !== address) frame.src = address;
  }
}

new MutationObserver(colour).observe(document.body, { attributes: true, attributeFilter: ["data-md-color-scheme"] });
colour();
