"use strict";
// Shows the panel of the chosen view, where it has one.

(() => {
  const panels = [...document.querySelectorAll("[data-panel]")];
  document.addEventListener("view-selected", ({ detail }) => {
    const chosen = panels.find((panel) => Number(panel.dataset.panel) === detail);
    if (chosen) panels.forEach((panel) => panel.toggleAttribute("hidden", panel !== chosen));
  });
})();
