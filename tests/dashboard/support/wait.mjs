// Waiting for something to become true, with an end.

/**
 * @param {string} what for the message
 * @param {() => any} probe a value that is truthy at last, or a promise of one
 * @param {number} [ms]
 */
export async function until(what, probe, ms = 15_000) {
  const end = Date.now() + ms;
  let last;
  for (;;) {
    try {
      const value = await probe();
      if (value) return value;
    } catch (error) {
      last = error;
    }
    if (Date.now() > end) throw new Error(`did not happen in ${ms} ms: ${what}${last ? ` (${last.message})` : ''}`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}
