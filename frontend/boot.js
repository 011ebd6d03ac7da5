// Starts the application. A file of its own, because the content security policy allows no
// script in the page, and a classic script, so that the theme is set before the first paint.
(() => {
  const script = document.currentScript;
  try {
    const theme = localStorage.getItem("linekeeper.theme");
    if (theme) document.documentElement.dataset.theme = theme;
  } catch {
    // Storage can be forbidden; then the system decides.
  }
  import(script.dataset.glue)
    .then((glue) => glue.default({ module_or_path: script.dataset.wasm }))
    .catch((error) => {
      console.error(error);
      addEventListener("DOMContentLoaded", tell);
      if (document.readyState !== "loading") tell();
    });
  function tell() {
    const starting = document.getElementById("starting");
    if (starting) {
      starting.textContent =
        "Linekeeper could not start in this browser. Reload the page; if that does not help, " +
        "the server may have been updated or the browser is too old (it needs WebAssembly).";
    }
  }
})();
