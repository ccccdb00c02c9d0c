"use strict";
// One view is chosen on the whole page: every element that stands for it is marked, and the panel
// [data-details] shows its row of the table large.

(() => {
  const panel = document.querySelector("[data-details]");
  const hint = panel?.innerHTML;

  const details = (row) => {
    const list = document.createElement("dl");
    list.className = "facts";
    for (const cell of row.cells) {
      if (!cell.textContent && !cell.querySelector("img")) continue;
      const pair = document.createElement("div");
      const label = document.createElement("dt");
      const value = document.createElement("dd");
      if (cell.matches(".number")) label.textContent = cell.dataset.label; // words tell themselves
      value.append(...[...cell.childNodes].map((node) => node.cloneNode(true)));
      value.querySelectorAll("[id]").forEach((copy) => copy.removeAttribute("id"));
      pair.append(label, value);
      list.append(pair);
    }
    return list;
  };

  let clicked = false; // in the table or map, where nothing needs to scroll
  document.addEventListener("click", ({ target }) => {
    const item = target.closest("[data-view]");
    if (!item) return;
    clicked = true;
    document.dispatchEvent(new CustomEvent("view-selected", { detail: Number(item.dataset.view) }));
    clicked = false;
  });

  document.addEventListener("view-selected", ({ detail }) => {
    document.querySelectorAll("[data-view]").forEach((item) => {
      if (Number(item.dataset.view) === detail) item.setAttribute("aria-current", "true");
      else item.removeAttribute("aria-current");
    });
    const row = document.querySelector('tr[aria-current="true"]');
    if (panel && row) panel.replaceChildren(details(row));
    else if (panel) panel.innerHTML = hint;
    // Only where the table stands beside the picture: elsewhere it would scroll this away.
    const beside = matchMedia("(min-width: 1100px)").matches;
    if (row && beside && !clicked) row.scrollIntoView({ block: "nearest" });
  });
})();
