// Runs before the first paint: the theme that was chosen on this device, if one was.
(() => {
  try {
    const chosen = localStorage.getItem("addnorm-theme");
    if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
  } catch { /* storage may be forbidden; the system's theme it is */ }
})();
