// The one store. Everything that the page shows is in `state`; who learns something calls `change`, and the page is
// written once per frame from whatever the state then is. Nothing flows from the document back into the state except
// through `change`.

/** @typedef {import('./types.d.ts').State} State */

/** @type {State} */
export const state = {
  session: null,
  failure: null,
  stats: null,
  statsAt: 0,
  statsWallAt: 0,
  link: 'connecting',
  stale: false,
  lost: false,
  outdated: false,
  tickMs: 1000,
  live: [],
  liveSeconds: 60,
  events: [],
  settings: { lang: 'auto', theme: 'system', rates: 'bytes', masked: false, sorts: {}, hidden: {} },
  route: { page: 'overview', email: '', query: {} },
  removing: {},
  accounts: null,
};

/** @type {(state: State) => void} */
let write = () => {};
let frame = 0;

/**
 * Says who writes the state into the document.
 * @param {(state: State) => void} writer
 */
export function onChange(writer) {
  write = writer;
}

/**
 * Changes parts of the state and has the page written with the next frame. A hidden page has no frames and so is not
 * written.
 * @param {Partial<State>} parts
 */
export function change(parts) {
  Object.assign(state, parts);
  frame ||= requestAnimationFrame(() => {
    frame = 0;
    write(state);
  });
}
