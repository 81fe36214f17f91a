// Sets the user's colours before the first paint. Not a module, because modules run later.
(() => {
  const chosen = localStorage.getItem("lookalike.theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
