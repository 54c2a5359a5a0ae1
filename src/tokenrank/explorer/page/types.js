/**
 * The words that the parts of the page share; nothing here is shipped.
 *
 * @typedef {[number, number]} Bytes  Offset and length in the blob.
 * @typedef {[number, number]} Run  First token and the one after the last.
 *
 * @typedef {object} Index  The JSON in front of the blob; written by explorer/index.py.
 * @property {"TRX1"} format
 * @property {string} generator  "tokenrank 0.1.0".
 * @property {string} title
 * @property {string} model
 * @property {number} alpha  Probability of following attention that the numbers from Python were computed with.
 * @property {number} bounces  Largest finite number of bounces of the slider.
 * @property {string[]} python  Lines that make `obs` (or `trace`) again; the snippet goes on from there.
 * @property {string} cure  Command that brings what is not in the page; {layer} and {head} stand for names.
 * @property {Sheet[]} sheets
 *
 * @typedef {object} Sheet  Tokens that belong together: one picture, one text, or a picture with its prompt.
 * @property {string} name
 * @property {"picture" | "text" | "both"} kind  "both": a picture and words, as in the joint attention of denoisers.
 * @property {number} count  N.
 * @property {Span[]} spans  In the order of the sequence.
 * @property {Grid | null} grid  Of the picture.
 * @property {Picture | null} picture
 * @property {Token[] | null} tokens  One a token; null where nothing is known but the span.
 * @property {Word[]} words  Words of more than one piece and of one; empty for pictures.
 * @property {number[]} special  CLS, SEP, BOS, padding.
 * @property {number} start  Where the walk starts at first.
 * @property {Step[]} steps  Of a denoiser; one entry {step: 0, timestep: null} otherwise.
 * @property {Layer[]} layers  For every step, in the order of the model.
 *
 * @typedef {{name: string, first: number, count: number}} Span
 * @typedef {{first: number, rows: number, columns: number, order: number[] | null}} Grid
 *   Cell k (row by row) is token `order[k]`, or `first + k` where order is null.
 * @typedef {{mime: string, bytes: Bytes, width: number, height: number, note: string}} Picture
 *   What the model saw; `note` says crop and resize in words.
 * @typedef {{text: string, space: boolean, name: string}} Token
 *   `text` as a reader sees it, whether a space stands before it, `name` for lists: text, or "row 3, column 7".
 * @typedef {{text: string, first: number, count: number}} Word
 * @typedef {{step: number, timestep: number | null}} Step
 *
 * @typedef {object} Layer  One layer at one step.
 * @property {string} name
 * @property {number} number  Place among the layers.
 * @property {number} step  Index in `sheet.steps`.
 * @property {Head[]} heads  All of them, in the page or not.
 * @property {Bytes | null} thumbs  TokenRank of every head: uint8 (heads, cells or tokens), √(p / largest).
 * @property {Stored | null} stored  null: a thumbnail only.
 * @property {Chain | null} chain  Of the heads weighted by |λ2|.
 *
 * @typedef {object} Head
 * @property {number} lambda2
 * @property {"proved" | "checked" | "uncertain"} certificate
 * @property {number | null} bound  Proved error of |λ2|.
 * @property {number} entropy  Entropy rate in bits, of at most log2(N).
 * @property {number[]} sinks  Tokens that outshine the rest.
 * @property {number} held  Share of TokenRank that they hold.
 * @property {boolean} kept  Whether its queries and keys are in the page.
 *
 * @typedef {object} Stored  How the heads that are kept are stored, in one slice.
 * @property {"qk" | "weights"} kind
 * @property {"int16" | "int8" | "uint16" | "uint8"} type  int of q and k, uint of weights.
 * @property {Bytes} bytes  q (heads, N, d), k (keyHeads, N, d), scales of q (heads, N), of k (keyHeads, N); or roots of
 *   weights (heads, N, N). Little-endian, scales bfloat16; each part begins at a multiple of 4.
 * @property {number} size  d, with the scale of the logits and the balance folded in; 0 for weights.
 * @property {number[]} heads  Which heads, increasing.
 * @property {number} keyHeads  Heads of k: `heads.length`, or fewer of which each serves equally many in turn.
 * @property {boolean} causal  Token i sees tokens 0 … i.
 * @property {Errors} errors  Measured on what was written.
 *
 * @typedef {{entry: number, bounce: number, tokenrank: number}} Errors
 *   Largest |ΔA|, largest ℓ1 of a bounce (n = 1, 2, 8), ℓ1 of TokenRank; worst over heads and
 *   their mixtures, of stored against recorded.
 *
 * @typedef {object} Chain  What Python knows of the layer with heads by |λ2|, all tokens.
 * @property {number} lambda2
 * @property {"proved" | "checked" | "uncertain"} certificate
 * @property {boolean} unique  Whether α = 1 has one limit: one recurrent class, of period one.
 * @property {{real: number, imaginary: number, certificate: string, residual: number | null}[]} spectrum  Leading 8.
 * @property {{members: number[][], weights: number[], stay: number[], coarse: number[][], certificate: string,
 *   note: string} | null} groups  Metastable sets, heaviest first: their tokens, share of all tokens, probability to stay for a
 *   bounce from all of them evenly; and the chain between them, likewise.
 * @property {{recurrent: number[][], transient: number[], absorbing: number[], note: string} | null} classes
 * @property {{weights: number[]}} mixture  What each head of the layer counts for in it, sum one.
 *
 * @typedef {object} State  What a reader chose; the names are those of the link and of the widget's traits.
 * @property {number} sheet
 * @property {number} step  Index in `sheet.steps`.
 * @property {number} layer  `Layer.number`.
 * @property {number | "lambda2" | "uniform"} head
 * @property {number[]} starts  Tokens; several share the start evenly.
 * @property {number} bounces  0 … index.bounces, and one more for ∞.
 * @property {"forward" | "backward"} direction
 * @property {number} alpha  Of walk and limit.
 * @property {"none" | "special" | "sinks"} without  Tokens that are dropped: columns left out, rows renormalised.
 * @property {"each" | "shared"} scale
 * @property {number} opacity  0 … 1.
 * @property {boolean} smooth
 * @property {boolean} hide  The start's neighbourhood, from the colours and the list.
 * @property {boolean} pieces  Tokens of a text one by one; false: words, summed from their pieces.
 * @property {"magma" | "viridis" | "greys"} colours
 * @property {"walk" | "heads" | "chain" | "groups"} tab
 * @property {"dark" | "light" | null} theme  null: that of the page around, else of the system.
 *
 * @typedef {object} Walk  The answer to a state: maps after 0 … bounces steps and their limit.
 * @property {number} count  Tokens.
 * @property {number} ready  Maps 0 … ready − 1 are there; below bounces + 1 while the chain is being built.
 * @property {Float32Array} maps  (bounces + 1, N).
 * @property {Float32Array | null} limit  (N,), TokenRank with the state's α, direction and tokens.
 * @property {Float32Array | null} distance  (bounces + 1,), total variation from the limit.
 * @property {number} residual  Of the limit.
 * @property {boolean} converged
 *
 * @typedef {object} View  One explorer on a page; what every part is handed.
 * @property {Index} index
 * @property {Readonly<State>} state
 * @property {Sheet} sheet  Of the state.
 * @property {Layer} layer  Of the state.
 * @property {Layer[]} layers  Of the state's sheet and step.
 * @property {Walk | null} walk
 * @property {number | null} hover  Token under the pointer or the keyboard.
 * @property {number} frame  Bounces shown: those of the state, or a fraction in between while it plays; bounces + 1 is ∞.
 * @property {boolean} playing
 * @property {{building: number, wasm: boolean, worker: boolean, why: string, milliseconds: Record<string, number>}} work
 *   How far the chain is (0 … 1; 1 when ready), and how it is computed.
 * @property {Notice[]} notices  What the reader should know now; they change with "work".
 * @property {ShadowRoot} root
 * @property {HTMLElement} host
 * @property {(changes: Partial<State>) => void} set  Checks, computes what has to be, tells the parts.
 * @property {(token: number | null) => void} look  Sets `hover`.
 * @property {(on?: boolean) => void} play
 * @property {(frame: number) => Float32Array | null} at  The map of a frame, blended in between; null where not ready.
 * @property {(bytes: Bytes) => Promise<Uint8Array>} bytes
 * @property {(words: string) => void} say  Polite live text, throttled.
 *
 * @typedef {{words: string, command: string | null}} Notice  A sentence, and the command that helps.
 *
 * @typedef {"sheet" | "state" | "walk" | "frame" | "hover" | "work" | "size"} Change
 *   Sheet: other tokens or picture; state: anything in it; walk: new maps; work: how far the computation is.
 *
 * @typedef {{element: HTMLElement, update: (changed: Set<Change>, keys: Set<string>) => void, remove?: () => void}} Part
 *   A part of the page. `update` is called once with all changes at first; `keys` are the names in State that changed.
 *
 * @typedef {object} Source  Where index and blob come from: tags of the file, ranges of an address, traits of a widget.
 * @property {() => Promise<Index>} index
 * @property {string} [problem]  What is missing in it, as a sentence; known after `index`.
 * @property {(bytes: Bytes) => Promise<Uint8Array>} bytes
 */
export {}
