// Before the first paint: the colours that the reader chose, if any. No module, since those run later.
(() => {
  const chosen = localStorage.getItem("lookalike.theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
