// Sets the theme before anything is painted, so that a dark page never flashes white. The only classic script of the
// page: modules run too late for this. settings.js keeps the same attribute up to date afterwards.
(() => {
  let wanted = 'system';
  try {
    wanted = JSON.parse(localStorage.getItem('vless-settings') || '{}').theme || 'system';
  } catch {
    // A browser that keeps nothing gets the system's theme.
  }
  const dark = wanted === 'dark' || (wanted !== 'light' && matchMedia('(prefers-color-scheme: dark)').matches);
  document.documentElement.dataset.theme = dark ? 'dark' : 'light';
})();
