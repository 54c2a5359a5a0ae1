/**
 * Files that travel in the module: style sheets as one text, the kernel in base64. Empty here; filled where
 * explorer/module.py joins the files.
 *
 * @type {Record<string, string>}
 */
export const FILES = {}
